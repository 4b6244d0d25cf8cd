//! Strict loading of a module from a checkpoint: every parameter is filled and every tensor is used or ignored by the
//! dialect; otherwise an error lists all differences.

use super::dialect::{Dialect, IDENTITY, TensorSource};
use super::file::Checkpoint;
use super::module::{self, Parameter};
use crate::card;
use crate::kernel::stored::{RowOrder, StoredMatrix};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::Device;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Statistics of a loaded checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// Number of filled parameters, which are all parameters of the module.
    pub tensors: usize,
    /// Number of elements of all parameters.
    pub elements: usize,
    /// Names of unused tensors that the dialect ignores.
    pub ignored: Vec<String>,
}

/// Returns `module` with every parameter replaced by the checkpoint's, with names translated by `dialect`.
///
/// # Errors
/// The checkpoint does not match the module; one error lists all missing tensors, unused tensors and wrong shapes. Or a
/// value is not finite; see [`Checkpoint::read`].
pub fn load<M: Module>(module: M, checkpoint: &Checkpoint, dialect: &Dialect) -> Result<(M, LoadReport)> {
    load_with(module, checkpoint, dialect, |_, values| Ok(values))
}

/// Loads as [`load`] does, for files that do not store the final values: `change` converts the stored values of each
/// parameter to its final values.
///
/// # Errors
/// As [`load`], or an error of `change`.
pub fn load_with<M: Module>(
    module: M,
    checkpoint: &Checkpoint,
    dialect: &Dialect,
    change: impl Fn(&Parameter, Vec<f32>) -> Result<Vec<f32>>,
) -> Result<(M, LoadReport)> {
    load_stored(module, checkpoint, dialect, change, |_| None).map(|(module, report, _)| (module, report))
}

/// Loads as [`load_with`] does, but leaves some matrices as the file stores them: those for which `keep` returns the
/// order of their rows, if the file has them as 16-bit floats or quantised blocks in one tensor, or in a range of rows
/// of one. Their parameters are not filled; the matrices are returned by the paths of these parameters.
///
/// # Errors
/// As [`load_with`]; the names, shapes and values of the matrices that are kept are checked too.
pub fn load_stored<M: Module>(
    module: M,
    checkpoint: &Checkpoint,
    dialect: &Dialect,
    change: impl Fn(&Parameter, Vec<f32>) -> Result<Vec<f32>>,
    keep: impl Fn(&Parameter) -> Option<RowOrder>,
) -> Result<(M, LoadReport, BTreeMap<String, StoredMatrix>)> {
    let parameters = module::parameters(&module)?;
    let sources = sources(&parameters, checkpoint, dialect)?;
    let ignored = compare(&sources, &parameters, checkpoint, dialect)?;
    let mut kept = BTreeMap::new();
    let module = module::fill_some(module, |parameter| {
        let source = sources
            .get(&parameter.path)
            .ok_or_else(|| Error::failed("the module has a parameter that was not listed"))?;
        if let Some(order) = keep(parameter)
            && let Some(matrix) = stored(parameter, source, checkpoint)?.and_then(|matrix| matrix.with_row_order(order))
        {
            kept.insert(parameter.path.clone(), matrix);
            return Ok(None);
        }
        let mut values = Vec::new();
        for key in &source.keys {
            let part = match &source.rows {
                _ if key.is_empty() => vec![0.0; source.shape.iter().product()],
                Some(rows) => checkpoint.read_rows(key, rows.clone())?,
                None => checkpoint.read(key)?,
            };
            if values.is_empty() {
                values = part;
            } else {
                values.extend_from_slice(&part);
            }
        }
        change(parameter, values).map(Some)
    })?;
    let elements = parameters.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    Ok((module, LoadReport { tensors: parameters.len(), elements, ignored }, kept))
}

/// Returns the matrix of a parameter as the file stores it; `None` if it consists of several tensors, or is not stored
/// as 16-bit floats or quantised blocks.
fn stored(parameter: &Parameter, source: &TensorSource, checkpoint: &Checkpoint) -> Result<Option<StoredMatrix>> {
    let ([key], &[rows, columns]) = (source.keys.as_slice(), source.shape.as_slice()) else { return Ok(None) };
    let rows = source.rows.clone().unwrap_or(0..rows);
    match parameter.shape == [rows.len(), columns] {
        true => checkpoint.finite_stored_rows(key, rows),
        false => Ok(None),
    }
}

/// Checks that the checkpoint has exactly the names and shapes that [`load`] needs. Only headers are read, so values
/// that are not finite are not detected.
///
/// # Errors
/// As [`load`].
pub fn check<M: Module>(module: &M, checkpoint: &Checkpoint, dialect: &Dialect) -> Result<()> {
    let parameters = module::parameters(module)?;
    compare(&sources(&parameters, checkpoint, dialect)?, &parameters, checkpoint, dialect).map(drop)
}

/// Returns the upstream names of each parameter, by path.
fn sources(
    parameters: &[Parameter],
    checkpoint: &Checkpoint,
    dialect: &Dialect,
) -> Result<HashMap<String, TensorSource>> {
    let shapes: HashMap<&str, &[usize]> = parameters.iter().map(|p| (p.path.as_str(), p.shape.as_slice())).collect();
    let mut sources = HashMap::new();
    for Parameter { path, shape } in parameters {
        let source = dialect.source(path, shape, &|path| shapes.get(path).copied())?;
        let source = source.found_by(|key| checkpoint.shape(key).is_some());
        sources.insert(path.clone(), source);
    }
    Ok(sources)
}

/// Compares the file with the tensors that the module needs; returns the ignored names, or an error that lists all
/// differences.
fn compare(
    sources: &HashMap<String, TensorSource>,
    parameters: &[Parameter],
    checkpoint: &Checkpoint,
    dialect: &Dialect,
) -> Result<Vec<String>> {
    let (mut missing, mut misshapen, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
    for source in parameters.iter().filter_map(|p| sources.get(&p.path)) {
        for key in source.keys.iter().filter(|key| !key.is_empty()) {
            // A fused tensor stores several parameters.
            if !used.insert(key.as_str()) {
                continue;
            }
            match checkpoint.shape(key) {
                None => missing.push(key.clone()),
                Some(found) if found != source.shape => {
                    misshapen.push(format!("{key}: expected {:?}, found {found:?}", source.shape));
                }
                Some(_) => {}
            }
        }
    }
    let (ignored, extra): (Vec<String>, Vec<String>) = checkpoint
        .keys()
        .filter(|k| !used.contains(k))
        .map(str::to_string)
        .partition(|k| dialect.ignores_under(checkpoint.root(), k));
    if missing.is_empty() && misshapen.is_empty() && extra.is_empty() {
        return Ok(ignored);
    }

    let mut message =
        format!("{} does not match the module (key dialect `{}`)", checkpoint.path().display(), dialect.name);
    message += &list("missing in the file", &missing);
    message += &list("not used by the module", &extra);
    message += &list("with a wrong shape", &misshapen);
    let wanted = used.len();
    Err(Error::failed(message).hint(hint(&missing, wanted, &misshapen, parameters, checkpoint, dialect)))
}

/// Formats a list as "\n  12 tensors not used by the module: a, b, … and 2 more"; returns "" for an empty list.
fn list(what: &str, items: &[String]) -> String {
    const SHOWN: usize = 10;
    if items.is_empty() {
        return String::new();
    }
    let shown = items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let rest = if items.len() > SHOWN { format!(" … and {} more", items.len() - SHOWN) } else { String::new() };
    let plural = if items.len() == 1 { "tensor" } else { "tensors" };
    format!("\n  {} {plural} {what}: {shown}{rest}", items.len())
}

/// Returns a hint on the most likely cause of a mismatch; the most specific cause is tested first.
fn hint(
    missing: &[String],
    wanted: usize,
    misshapen: &[String],
    parameters: &[Parameter],
    checkpoint: &Checkpoint,
    dialect: &Dialect,
) -> String {
    if let Some(prefix) = common_prefix(missing, checkpoint) {
        return format!(
            "set prefix = \"{prefix}\" in the card's [source]: the names start with it, as in the weights of a larger \
             model"
        );
    }
    if 2 * missing.len() > wanted {
        // The number of the module's tensors that each dialect would find.
        let found = |d: &Dialect| {
            let named = parameters.iter().filter_map(|p| d.source(&p.path, &p.shape, &|_| None).ok());
            named.flat_map(|s| s.keys).filter(|k| checkpoint.shape(k).is_some()).count()
        };
        // The first of those that find the same number.
        let best = Dialect::all().iter().rev().max_by_key(|d| found(d));
        let best = best.filter(|d| d.name != dialect.name && 2 * found(d) > wanted);
        return match best {
            Some(best) => {
                format!("set dialect = \"{}\" in the card's [source]: the names are those of this dialect", best.name)
            }
            None => match most_similar_card(checkpoint) {
                Some((id, dialect)) => format!(
                    "choose the card of these weights: their names are those of `{id}` in dialect `{dialect}`, another \
                     architecture"
                ),
                None => "choose the card of these weights: they have another architecture or an unknown dialect".into(),
            },
        };
    }
    if !misshapen.is_empty() || !missing.is_empty() {
        return "correct the numbers in the card's [architecture]: they do not match the shapes of these weights"
            .into();
    }
    "compare the card's [architecture] with the weights, which have more layers or parts".into()
}

/// Returns the encoder of the zoo and the dialect whose names match most of the file's tensors, if more than half
/// match.
fn most_similar_card(checkpoint: &Checkpoint) -> Option<(String, &'static str)> {
    let mut best = (checkpoint.keys().count() / 2, None);
    for card in card::zoo().ok()? {
        let module = card.architecture.init(&Device::flex());
        let Ok(parameters) = module.and_then(|module| module::parameters(&module)) else { continue };
        for dialect in Dialect::all().iter().filter(|d| d.name != IDENTITY.name) {
            let names: BTreeSet<String> = parameters.iter().filter_map(|p| dialect.names(&p.path)).flatten().collect();
            let found = checkpoint.keys().filter(|key| names.contains(*key)).count();
            if found > best.0 {
                best = (found, Some((card.id.clone(), dialect.name)));
            }
        }
    }
    best.1
}

/// Returns the prefix under which most of the `missing` names exist in the file.
fn common_prefix(missing: &[String], checkpoint: &Checkpoint) -> Option<String> {
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for wanted in missing {
        for prefix in checkpoint.keys().filter_map(|key| key.strip_suffix(wanted.as_str())) {
            if prefix.ends_with('.') {
                *votes.entry(prefix).or_default() += 1;
            }
        }
    }
    let (prefix, count) = votes.into_iter().max_by_key(|(_, n)| *n)?;
    (2 * count > missing.len()).then(|| prefix.to_string())
}
