//! What is left to ask a language model, and what it may cost.

use super::replies::kept_in;
use super::stage::Stage;
use super::workspace::{ShardState, Workspace};
use super::{KeptReplies, asking::most_of};
use crate::llm::{ChatRequest, Usage};
use burgess_base::Result;
use serde::Serialize;

/// What a stage has left to ask.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageEstimate {
    /// The stage.
    pub stage: Stage,
    /// Number of shards that are not finished and whose input is there.
    pub open_shards: usize,
    /// Number of shards whose input is not there yet, so that their requests are not known.
    pub unknown_shards: usize,
    /// Number of requests without a reply. Those that are asked again because of a malformed reply are not among them.
    pub requests: u64,
    /// Number of replies that are kept.
    pub kept: u64,
    /// Expected tokens: of the requests by their length, of the replies by those that are kept.
    pub expected: Usage,
    /// Number of tokens that the requests may take at most, with replies up to their limit.
    pub most: Usage,
    /// Mean number of tokens of a reply on which `expected` rests.
    pub tokens_per_reply: f64,
    /// Whether this mean is an assumption, because there are no replies yet.
    pub assumed: bool,
    /// Expected price.
    pub expected_cost: f64,
    /// Price at most.
    pub most_cost: f64,
}

/// Estimates what is left to ask in the stages of language models among `stages`, in all shards or one.
///
/// # Errors
/// A file cannot be read, or the settings name no endpoint.
pub fn estimate(workspace: &Workspace, stages: &[Stage], only: Option<usize>) -> Result<Vec<StageEstimate>> {
    let asks = |stage: &Stage| match stage {
        Stage::Topics => workspace.input().asks(),
        Stage::Qa => true,
        Stage::Pages | Stage::Images | Stage::Pack => false,
    };
    stages.iter().filter(|stage| asks(stage)).map(|stage| of_stage(workspace, *stage, only)).collect()
}

fn of_stage(workspace: &Workspace, stage: Stage, only: Option<usize>) -> Result<StageEstimate> {
    let endpoint = workspace.config().endpoint()?;
    let mut found = StageEstimate {
        stage,
        open_shards: 0,
        unknown_shards: 0,
        requests: 0,
        kept: 0,
        expected: Usage::default(),
        most: Usage::default(),
        tokens_per_reply: 0.0,
        assumed: false,
        expected_cost: 0.0,
        most_cost: 0.0,
    };
    let mut received = 0;
    for shard in (0..workspace.shards()).filter(|shard| only.is_none_or(|only| only == *shard)) {
        let kept = kept_in(&workspace.path(stage, shard, ".replies.jsonl"))?;
        found.kept += kept.len() as u64;
        received += kept.values().map(|reply| reply.usage.completion_tokens).sum::<u64>();
        match workspace.state(stage, shard)? {
            ShardState::Done(_) => {}
            ShardState::Waiting(_) => found.unknown_shards += 1,
            ShardState::Stale(_) if workspace.input_digest(stage, shard)?.is_none() => found.unknown_shards += 1,
            ShardState::Open | ShardState::Partial | ShardState::Stale(_) => {
                found.open_shards += 1;
                for request in requests(workspace, stage, shard, &kept)? {
                    found.requests += 1;
                    found.expected.prompt_tokens += request.estimated_prompt_tokens();
                    found.most.add(most_of(endpoint, &request));
                }
            }
        }
    }
    found.assumed = found.kept == 0;
    found.tokens_per_reply = match (found.assumed, stage) {
        (false, _) => received as f64 / found.kept as f64,
        // Seven tokens for a topic, a hundred and fifty for a question with answer and evidence.
        (true, Stage::Topics) => 7.0 * workspace.config().topics.per_subfield as f64,
        (true, _) => 150.0 * workspace.config().qa.per_image as f64,
    };
    found.expected.completion_tokens = (found.tokens_per_reply * found.requests as f64).round() as u64;
    found.expected.estimated = true;
    let budget = &workspace.config().budget;
    (found.expected_cost, found.most_cost) = (budget.cost(found.expected), budget.cost(found.most));
    Ok(found)
}

fn requests(workspace: &Workspace, stage: Stage, shard: usize, kept: &KeptReplies) -> Result<Vec<ChatRequest>> {
    match (stage, workspace.state(Stage::Images, shard)) {
        (Stage::Topics, _) => crate::topics::open_requests(workspace, shard, kept),
        (Stage::Qa, Ok(ShardState::Done(source))) => crate::qa::open_requests(workspace, shard, &source, kept),
        _ => Ok(Vec::new()),
    }
}
