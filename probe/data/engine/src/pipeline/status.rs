//! Where a workspace stands.

use super::budget::{Spending, ledger};
use super::stage::Stage;
use super::workspace::{ShardState, Workspace};
use burgess_base::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// Where a stage stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageStatus {
    /// The stage.
    pub stage: Stage,
    /// Number of finished shards.
    pub done: usize,
    /// Numbers of shards of which a part is done.
    pub partial: Vec<usize>,
    /// Number of shards of which nothing is done.
    pub open: usize,
    /// Number of shards that wait for the stage before.
    pub waiting: usize,
    /// Shards that were made with other settings or of other data, with what differs.
    pub stale: BTreeMap<usize, Vec<String>>,
    /// Number of items that finished shards have read.
    pub items: u64,
    /// Number of records that finished shards have written.
    pub records: u64,
    /// Number of rejected items or records of finished shards, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Further counts of finished shards.
    pub counts: BTreeMap<String, u64>,
    /// What the stage has spent.
    pub spent: Spending,
    /// The price of it.
    pub cost: f64,
}

/// Where a workspace stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkspaceStatus {
    /// Number of shards of each stage.
    pub shards: usize,
    /// The stages in their order.
    pub stages: Vec<StageStatus>,
    /// The price of what all stages have spent.
    pub cost: f64,
    /// Currency of the prices.
    pub currency: String,
}

/// Says where a workspace stands.
///
/// # Errors
/// A marker or the ledger cannot be read.
pub fn status(workspace: &Workspace) -> Result<WorkspaceStatus> {
    let (ledger, budget) = (ledger(workspace.directory())?, &workspace.config().budget);
    let mut stages = Vec::new();
    for stage in Stage::ALL {
        let spent = ledger.total(Some(stage));
        let mut status = StageStatus {
            stage,
            done: 0,
            partial: Vec::new(),
            open: 0,
            waiting: 0,
            stale: BTreeMap::new(),
            items: 0,
            records: 0,
            rejected: BTreeMap::new(),
            counts: BTreeMap::new(),
            spent,
            cost: budget.cost(spent.spent()),
        };
        for shard in 0..workspace.shards() {
            match workspace.state(stage, shard)? {
                ShardState::Waiting(_) => status.waiting += 1,
                ShardState::Open => status.open += 1,
                ShardState::Partial => status.partial.push(shard),
                ShardState::Stale(why) => drop(status.stale.insert(shard, why)),
                ShardState::Done(marker) => {
                    status.done += 1;
                    status.items += marker.items;
                    status.records += marker.records;
                    for (sums, found) in
                        [(&mut status.rejected, &marker.rejected), (&mut status.counts, &marker.counts)]
                    {
                        found.iter().for_each(|(name, count)| *sums.entry(name.clone()).or_default() += count);
                    }
                }
            }
        }
        stages.push(status);
    }
    let cost = budget.cost(ledger.total(None).spent());
    Ok(WorkspaceStatus { shards: workspace.shards(), stages, cost, currency: budget.currency.clone() })
}
