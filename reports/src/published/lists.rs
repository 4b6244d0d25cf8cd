//! Parsers of the smaller files: exact means, ranks, scores without vision, correlations.

use super::{COLUMNS, Disabled, Exact, Printed, PrintedCorrelations, Ranked, Sheet};
use burgess_base::Result;

pub(super) fn exact(file: &str, text: &str) -> Result<Vec<Exact>> {
    let sheet = Sheet::parse(file, text)?;
    sheet.expect(&["Model", "G", "K", "O", "V"])?;
    let row = |(row, model): (usize, String)| -> Result<Exact> {
        let mean = |column| sheet.needed(row, column);
        Ok(Exact { model, means: [mean(1)?, mean(2)?, mean(3)?, mean(4)?] })
    };
    sheet.names(0)?.into_iter().enumerate().map(row).collect()
}

pub(super) fn ranked(file: &str, text: &str) -> Result<Vec<Ranked>> {
    let sheet = Sheet::parse(file, text)?;
    sheet.expect(&["List", "Model", "Avg", "G", "K", "O", "V"])?;
    let row = |row: usize| -> Result<Ranked> {
        let mut ranks = [Printed { value: 0.0, digits: 0 }; 5];
        for (scope, slot) in ranks.iter_mut().enumerate() {
            *slot = sheet.needed(row, scope + 2)?;
        }
        Ok(Ranked { list: sheet.text(row, 0).into(), model: sheet.text(row, 1).into(), ranks })
    };
    (0..sheet.count()).map(row).collect()
}

pub(super) fn disabled(file: &str, text: &str) -> Result<Vec<Disabled>> {
    let sheet = Sheet::parse(file, text)?;
    sheet.expect(&["Benchmark", "Random", "Disabled", "Gain"])?;
    let row = |(row, name): (usize, String)| -> Result<Disabled> {
        let column = COLUMNS.iter().position(|c| c.name == name);
        Ok(Disabled {
            column: column.ok_or_else(|| sheet.wrong(row, 0, &format!("no benchmark is called {name}")))?,
            random: sheet.needed(row, 1)?.value,
            disabled: sheet.needed(row, 2)?.value,
            gain: sheet.needed(row, 3)?.value,
        })
    };
    sheet.names(0)?.into_iter().enumerate().map(row).collect()
}

pub(super) fn correlations(file: &str, text: &str) -> Result<PrintedCorrelations> {
    let sheet = Sheet::parse(file, text)?;
    let names = sheet.names(0)?;
    let header: Vec<&str> = std::iter::once("Benchmark").chain(names.iter().map(String::as_str)).collect();
    sheet.expect(&header)?;
    let mut values = vec![vec![1.0; names.len()]; names.len()];
    for (i, j) in (0..names.len()).flat_map(|i| (i..names.len()).map(move |j| (i, j))) {
        let r = sheet.needed(i, j + 1)?.value;
        if !(-1.0..=1.0).contains(&r) || (i == j && r != 1.0) {
            return Err(sheet.wrong(i, j + 1, &format!("{r} is no correlation")));
        }
        for (a, b) in [(i, j), (j, i)] {
            if let Some(slot) = values.get_mut(a).and_then(|row| row.get_mut(b)) {
                *slot = r;
            }
        }
    }
    Ok(PrintedCorrelations { names, values })
}
