//! The budget in tokens and money, which all processes of a workspace share.
//!
//! What was spent is written in the reply files of the shards. `budget.json` holds their sums, and grants: a process
//! that asks takes a grant for its next requests, so that the sum of what was spent and what may be spent never exceeds
//! the budget, and returns what is left of it. A process that was killed leaves its grant; whoever continues its shard
//! replaces it by what the reply file says.

use super::claims::{self, Claims};
use super::{ShardTask, Stage, shard_of, spent_in};
use crate::config::Budget;
use crate::llm::Usage;
use burgess_base::{Context, Error, Result, atomic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Number of requests for which a grant is taken if the budget allows it.
const GRANT: u64 = 16;

/// What a shard has spent and may spend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    /// Tokens of replies that arrived.
    pub used: Usage,
    /// Estimated tokens of replies that did not arrive.
    pub lost: Usage,
    /// Tokens that its process may still spend.
    #[serde(default)]
    pub granted: Usage,
}

impl Spending {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.used.add(other.used);
        self.lost.add(other.lost);
        self.granted.add(other.granted);
    }

    /// Returns what was spent or may be spent.
    fn all(&self) -> Usage {
        let mut all = self.used;
        all.add(self.lost);
        all.add(self.granted);
        all
    }

    /// Returns what was spent: replies that arrived, and those that did not.
    pub fn spent(&self) -> Usage {
        Self { granted: Usage::default(), ..*self }.all()
    }
}

/// The contents of `budget.json`: what each shard has spent, by `STAGE/shard-NNNNN`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledger(pub BTreeMap<String, Spending>);

impl Ledger {
    /// Returns the sum over all shards, or over those of one stage.
    pub fn total(&self, stage: Option<Stage>) -> Spending {
        let mut total = Spending::default();
        let prefix = stage.map(|stage| format!("{stage}/")).unwrap_or_default();
        self.0.iter().filter(|(shard, _)| shard.starts_with(&prefix)).for_each(|(_, one)| total.add(one));
        total
    }
}

/// The money of a shard: checks each request against the budget before it is sent.
pub struct Purse<'a> {
    budget: &'a Budget,
    claims: &'a dyn Claims,
    stopped: &'a (dyn Fn() -> bool + Sync),
    file: PathBuf,
    shard: String,
    state: Mutex<PurseState>,
}

#[derive(Default)]
struct PurseState {
    spending: Spending,
    /// Tokens of requests that are in flight, at most.
    reserved: Usage,
}

/// A request that may be sent.
pub struct Reservation(Usage);

/// Path of the file in a workspace.
pub fn file_in(directory: &Path) -> PathBuf {
    directory.join("budget.json")
}

/// Reads the ledger of a workspace; without the file, the sums are made from the replies that are kept.
///
/// # Errors
/// The file cannot be read.
pub fn ledger(directory: &Path) -> Result<Ledger> {
    let file = file_in(directory);
    match file.exists() {
        true => atomic::read_json(&file)
            .map_err(|e| e.hint("delete the file: the sums are made again from the replies that are kept")),
        false => from_replies(directory),
    }
}

/// Sums what the reply files of all shards say was spent.
fn from_replies(directory: &Path) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    for stage in [Stage::Topics, Stage::Qa] {
        let folder = directory.join(stage.as_str());
        let listed = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("reading {}", folder.display()))?,
        };
        for entry in listed {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let (true, Some(shard)) = (name.ends_with(".replies.jsonl"), shard_of(&name)) {
                ledger.0.insert(ShardTask { stage, shard }.name(), spent_in(&path)?);
            }
        }
    }
    Ok(ledger)
}

impl<'a> Purse<'a> {
    /// Opens the purse of a shard that this process owns; `spent` is what its reply file says.
    ///
    /// # Errors
    /// The ledger cannot be read or written.
    pub fn open(
        budget: &'a Budget,
        claims: &'a dyn Claims,
        stopped: &'a (dyn Fn() -> bool + Sync),
        directory: &Path,
        shard: &str,
        spent: Spending,
    ) -> Result<Self> {
        let spending = Spending { granted: Usage::default(), ..spent };
        let state = Mutex::new(PurseState { spending, reserved: Usage::default() });
        let purse = Self { budget, claims, stopped, file: file_in(directory), shard: shard.to_string(), state };
        purse.update(|_, _| Ok(()))?;
        Ok(purse)
    }

    /// Changes this shard's entry under the claim on the ledger.
    fn update(&self, change: impl FnOnce(&Ledger, &mut PurseState) -> Result<()>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _claim = claims::wait(self.claims, &self.file.with_file_name("budget"), self.stopped)?;
        let mut ledger = ledger(self.file.parent().unwrap_or(Path::new(".")))?;
        ledger.0.insert(self.shard.clone(), state.spending);
        change(&ledger, &mut state)?;
        ledger.0.insert(self.shard.clone(), state.spending);
        atomic::write_json(&self.file, &ledger)
    }

    /// Reserves what a request may take at most.
    ///
    /// # Errors
    /// The budget does not allow it ([`is_spent`]), or the ledger cannot be read or written.
    pub fn reserve(&self, most: Usage) -> Result<Reservation> {
        if self.budget.is_unlimited() {
            return Ok(Reservation(most));
        }
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.take(most) {
                return Ok(Reservation(most));
            }
        }
        self.update(|ledger, state| {
            // Another thread may have taken a grant meanwhile.
            if state.take(most) {
                return Ok(());
            }
            let total = ledger.total(None).all();
            let fits = |n: u64| {
                let mut all = total;
                all.add(times(most, n));
                self.budget.allows(all)
            };
            let Some(n) = std::iter::successors(Some(GRANT), |n| Some(n / 2)).take_while(|n| *n > 0).find(|n| fits(*n))
            else {
                return Err(spent(self.budget, ledger.total(None), most));
            };
            state.spending.granted.add(times(most, n));
            match state.take(most) {
                true => Ok(()),
                false => Err(Error::failed("a grant is smaller than the request for which it was taken")),
            }
        })?;
        Ok(Reservation(most))
    }

    /// Replaces a reservation by what was spent.
    pub fn settle(&self, reservation: Reservation, used: Usage, lost: Usage) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        state.spending.used.add(used);
        state.spending.lost.add(lost);
        if !self.budget.is_unlimited() {
            state.reserved = minus(state.reserved, reservation.0);
            // What was not used goes back; what was used above the estimate is taken from the grant.
            let mut all = used;
            all.add(lost);
            state.spending.granted = minus(state.spending.granted, all);
        }
    }

    /// Returns the rest of the grant, and writes what was spent.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn close(&self) -> Result<()> {
        self.update(|_, state| {
            state.spending.granted = Usage::default();
            Ok(())
        })
    }
}

impl PurseState {
    /// Reserves a part of the grant, if enough is left.
    fn take(&mut self, most: Usage) -> bool {
        let mut all = self.reserved;
        all.add(most);
        let granted = self.spending.granted;
        let fits = all.prompt_tokens <= granted.prompt_tokens && all.completion_tokens <= granted.completion_tokens;
        if fits {
            self.reserved = all;
        }
        fits
    }
}

fn times(usage: Usage, n: u64) -> Usage {
    Usage {
        prompt_tokens: usage.prompt_tokens.saturating_mul(n),
        completion_tokens: usage.completion_tokens.saturating_mul(n),
        estimated: usage.estimated,
    }
}

fn minus(from: Usage, what: Usage) -> Usage {
    Usage {
        prompt_tokens: from.prompt_tokens.saturating_sub(what.prompt_tokens),
        completion_tokens: from.completion_tokens.saturating_sub(what.completion_tokens),
        estimated: from.estimated,
    }
}

/// The beginning of the message of a spent budget.
const SPENT: &str = "the budget is spent";

/// Whether an error says that the budget is spent.
pub fn is_spent(error: &Error) -> bool {
    error.chain().iter().any(|step| step.starts_with(SPENT))
}

fn spent(budget: &Budget, total: Spending, most: Usage) -> Error {
    let mut message = format!("{SPENT}: {} of {}", budget.amount(total.spent()), budget.limits());
    if total.granted.total() > 0 {
        message += &format!(", and {} are reserved by processes at work", budget.amount(total.granted));
    }
    message += &format!("; the next request may take {}", budget.amount(most));
    Error::failed(message).hint(
        "raise `max_cost` or `max_tokens` of [budget] in engine.toml and start again: all replies are kept, and none is \
         asked for twice",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::claims::FileLocks;

    fn usage(prompt_tokens: u64, completion_tokens: u64) -> Usage {
        Usage { prompt_tokens, completion_tokens, estimated: false }
    }

    #[test]
    fn the_budget_is_never_exceeded_by_processes_at_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let budget = Budget { max_tokens: Some(10_000), prompt_price: 1.0, completion_price: 2.0, ..Budget::default() };
        let go_on = || false;
        let work = |shard: usize| -> Result<(u64, Option<Error>)> {
            let name = format!("qa/shard-{shard:05}");
            let purse = Purse::open(&budget, &FileLocks, &go_on, dir.path(), &name, Spending::default())?;
            let mut spent = 0;
            let end = loop {
                match purse.reserve(usage(60, 40)) {
                    Ok(reservation) => purse.settle(reservation, usage(50, 20), Usage::default()),
                    Err(e) => break e,
                }
                spent += 70;
            };
            purse.close()?;
            Ok((spent, Some(end)))
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|shard| scope.spawn(move || work(shard))).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).collect::<Result<_>>()
        })?;
        let spent: u64 = results.iter().map(|(spent, _)| spent).sum();
        assert!(results.iter().all(|(_, end)| end.as_ref().is_some_and(is_spent)));
        assert!((9_000..=10_000).contains(&spent), "{spent}");
        let total = ledger(dir.path())?.total(None);
        assert_eq!((total.spent().total(), total.granted), (spent, Usage::default()));
        // A reopened shard takes what its reply file says, whatever grant a killed process has left.
        let purse = Purse::open(
            &budget,
            &FileLocks,
            &go_on,
            dir.path(),
            "qa/shard-00000",
            Spending { used: usage(1, 1), ..Spending::default() },
        )?;
        purse.close()?;
        assert_eq!(ledger(dir.path())?.0["qa/shard-00000"].spent(), usage(1, 1));
        Ok(())
    }
}
