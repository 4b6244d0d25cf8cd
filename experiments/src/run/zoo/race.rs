//! A race over a study's training data: which arms are trained at which rung, from what the run store holds.
//!
//! A race has no state of its own. Which arms are left follows from the results of the rungs before, so that a race
//! that was interrupted, or whose runs are done by the tasks of a cluster, goes on where it stands.

use super::list::ZooFailure;
use super::models;
use crate::machine::progress::Progress;
use crate::run::cost::CostEstimate;
use crate::run::learning_curve::with_fraction;
use crate::run::plan;
use crate::run::store::run_dir;
use crate::run::study_runs::StudyOptions;
use crate::study::{Arm, StudyConfig};
use burgess_base::{Error, Result};
use burgess_probe::recipe::Stage;
use burgess_reports::load::{RunData, StudyData};
use burgess_reports::racing::{
    Judgement, RaceArm, RaceRecord, RaceRules, Rung, RungRecord, Spending, judge, rung_agreement,
};
use burgess_reports::ranking::{RankOptions, Ranking, rank};
use burgess_reports::schema::{ArmRole, MissingRun, RunResults, SCHEMA};
use burgess_reports::stats::Estimate;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A race of a study's arms in an output directory.
pub struct RaceRun<'a> {
    study: &'a StudyConfig,
    rules: &'a RaceRules,
    out: &'a Path,
    /// The random and the oracle baseline, which are trained on all data only and never dropped.
    baselines: Vec<Arm>,
}

/// How far a race has come.
pub struct RaceProgress {
    /// The rungs that were trained, with their rankings.
    pub rungs: Vec<TrainedRung>,
    /// The runs that come next; `None` at the end.
    pub next: Option<RungStudy>,
    /// Arms that failed, by name.
    pub failed: BTreeMap<String, ZooFailure>,
}

/// A rung that was trained.
pub struct TrainedRung {
    /// Number of the rung, from 0.
    pub number: usize,
    /// Ranking of its runs.
    pub ranking: Ranking,
    /// Judgement of each arm in the race, by average.
    pub judged: Vec<Judgement>,
    /// Cost of its runs by arm.
    pub spent: BTreeMap<String, Spending>,
    /// Mean seconds for answers by arm.
    pub answer_seconds: BTreeMap<String, f64>,
    seeds: Vec<u64>,
}

/// The runs of a rung as a study.
#[derive(Clone)]
pub struct RungStudy {
    /// Number of the rung, from 0.
    pub number: usize,
    /// The study: the arms that are left, the rung's seeds, and its fraction of the training data.
    pub study: StudyConfig,
    /// Output directory.
    pub out: PathBuf,
}

impl RungStudy {
    /// Directory of the runs.
    pub fn dir(&self) -> PathBuf {
        self.out.join(&self.study.name)
    }
}

impl<'a> RaceRun<'a> {
    /// Prepares a race.
    ///
    /// # Errors
    /// The race is for as many arms as there are, or a rung needs more seeds than the study has.
    pub fn new(study: &'a StudyConfig, rules: &'a RaceRules, out: &'a Path) -> Result<Self> {
        rules.check()?;
        let mut baselines = Vec::new();
        for arm in &study.arms {
            if models::role_of(arm, &study.evaluator)? != ArmRole::Trained {
                baselines.push(arm.clone());
            }
        }
        let raced = study.arms.len() - baselines.len();
        if raced <= rules.k {
            return Err(Error::usage(format!("racing: {raced} arms for the best {}: none could be dropped", rules.k))
                .hint("leave out --racing, or give more encoders"));
        }
        if let Some(rung) = rules.rungs.iter().find(|rung| rung.seeds > study.seeds.len()) {
            return Err(Error::usage(format!(
                "racing: a rung has {} seeds, the study {} has {}",
                rung.seeds,
                study.name,
                study.seeds.len()
            ))
            .hint("give more seeds with --seeds, or fewer in `seeds` of --racing"));
        }
        if let Some(arm) = study.arms.iter().find(|arm| arm.mix.is_some()) {
            return Err(Error::usage(format!("racing: the arm {} has a mix, so that arms differ in data", arm.name()))
                .hint("race encoders under one set of training data"));
        }
        Ok(Self { study, rules, out, baselines })
    }

    /// The runs of a rung for the arms that are left.
    pub fn rung(&self, number: usize, rung: &Rung, left: &[Arm]) -> RungStudy {
        let mut study = with_fraction(self.study, rung.share);
        for stage in study.evaluator.recipe.align.iter_mut().chain([&mut study.evaluator.recipe.tune]) {
            shorten(stage, rung.share);
        }
        study.seeds = self.seeds(rung);
        study.arms = left.to_vec();
        let is_last = number + 1 == self.rules.rungs.len();
        if is_last {
            study.arms.extend(self.baselines.iter().cloned());
        }
        // Claims and pairs are about the study's own runs.
        study.series.clear();
        let out = match rung.share < 1.0 {
            true => self.out.join(format!("rung-{}", rung.share)),
            false => self.out.to_path_buf(),
        };
        RungStudy { number, study, out }
    }

    /// Number of arms in the race, without the baselines.
    pub fn raced(&self) -> usize {
        self.study.arms.len() - self.baselines.len()
    }

    /// The runs of a rung that was trained, as a study of this zoo.
    pub fn study_of(&self, trained: &TrainedRung, study: &StudyConfig) -> RungStudy {
        let has = |arm: &&Arm| trained.ranking.arm(&arm.name()).is_some();
        let arms: Vec<Arm> = study.arms.iter().filter(has).cloned().collect();
        let rung = self.rules.rungs.get(trained.number).copied().unwrap_or(Rung { share: 1.0, seeds: 0 });
        let mut part = self.rung(trained.number, &rung, &[]);
        part.study.arms = arms;
        part
    }

    /// Whether all runs of a rung were tried, and the failures of those without results.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn tried(&self, part: &RungStudy) -> Result<(bool, Vec<MissingRun>)> {
        let dir = part.dir();
        if !dir.is_dir() {
            return Ok((false, Vec::new()));
        }
        let is_failed = |run: &MissingRun| run_dir(&dir, &run.arm, run.seed).join("failed.json").is_file();
        let missing: Vec<MissingRun> = StudyData::load(&dir)?
            .missing
            .into_iter()
            .filter(|run| part.study.seeds.contains(&run.seed))
            .filter(|run| part.study.arms.iter().any(|arm| arm.name() == run.arm))
            .collect();
        let known = finished(part)?.len() + missing.len();
        let all = known == part.study.arms.len() * part.study.seeds.len() && missing.iter().all(is_failed);
        Ok((all, missing))
    }

    fn seeds(&self, rung: &Rung) -> Vec<u64> {
        let count = if rung.seeds == 0 { self.study.seeds.len() } else { rung.seeds };
        self.study.seeds.iter().take(count).copied().collect()
    }

    /// Replays the race from the results that exist. `failed` are the arms that this process could not run; they leave
    /// the race.
    ///
    /// # Errors
    /// A directory cannot be read, or the runs of a rung cannot be compared.
    pub fn replay(&self, failed: &BTreeMap<String, ZooFailure>) -> Result<RaceProgress> {
        let is_baseline = |arm: &Arm| self.baselines.contains(arm);
        let mut left: Vec<Arm> = self.study.arms.iter().filter(|arm| !is_baseline(arm)).cloned().collect();
        let mut progress = RaceProgress { rungs: Vec::new(), next: None, failed: failed.clone() };
        for (number, rung) in self.rules.rungs.iter().enumerate() {
            left.retain(|arm| !failed.contains_key(&arm.name()));
            let is_last = number + 1 == self.rules.rungs.len();
            if left.is_empty() || (left.len() <= self.rules.k && !(is_last && self.rules.finish)) {
                continue;
            }
            let mut part = self.rung(number, rung, &left);
            part.study.arms.retain(|arm| !failed.contains_key(&arm.name()));
            let runs = finished(&part)?;
            if runs.len() < part.study.arms.len() * part.study.seeds.len() {
                progress.next = Some(part);
                return Ok(progress);
            }
            let counted: Vec<u64> = progress
                .rungs
                .iter()
                .filter(|before| self.rules.rungs.get(before.number).is_some_and(|r| r.share == rung.share))
                .flat_map(|before| before.seeds.clone())
                .collect();
            let trained = self.judged(number, rung, &runs, &left, &counted)?;
            let dropped = |arm: &Arm| trained.judged.iter().any(|j| j.is_dropped && j.arm == arm.name());
            left.retain(|arm| !dropped(arm));
            progress.rungs.push(trained);
        }
        Ok(progress)
    }

    /// Ranks the runs of a rung and judges the arms of the race. `counted` are the seeds whose runs an earlier rung
    /// of the same share has paid for.
    fn judged(
        &self,
        number: usize,
        rung: &Rung,
        runs: &[RunData],
        left: &[Arm],
        counted: &[u64],
    ) -> Result<TrainedRung> {
        let results: Vec<RunResults> = runs.iter().map(|run| run.results.clone()).collect();
        let ranking = rank(&results, &[], &RankOptions { study: self.study.name.clone(), ..RankOptions::default() })?;
        let raced = |run: &RunResults| left.iter().any(|arm| arm.name() == run.run.arm);
        let judged = judge(self.rules, number, &results.into_iter().filter(raced).collect::<Vec<_>>(), 0)?;
        let mut spent: BTreeMap<String, Spending> = BTreeMap::new();
        let mut answers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for run in runs {
            let arm = run.results.run.arm.clone();
            let cost = measured(run);
            answers.entry(arm.clone()).or_default().push(cost.answer_seconds);
            let sum = spent.entry(arm).or_default();
            if !counted.contains(&run.results.run.seed) {
                *sum = *sum + cost;
            }
        }
        let mean = |(arm, all): (String, Vec<f64>)| (arm, all.iter().sum::<f64>() / all.len().max(1) as f64);
        let answer_seconds = answers.into_iter().map(mean).collect();
        Ok(TrainedRung { number, ranking, judged, spent, answer_seconds, seeds: self.seeds(rung) })
    }

    /// Makes the record of a race.
    ///
    /// # Errors
    /// The samples and operations of a run cannot be estimated.
    pub fn record(&self, progress: &RaceProgress, options: &StudyOptions, shown: &Progress) -> Result<RaceRecord> {
        let trained: Vec<&String> = progress.rungs.iter().flat_map(|rung| rung.spent.keys()).collect();
        let whole_runs = self.whole_runs(&trained, options, shown)?;
        let priced = |arm: &String, spent: &Spending, share: f64| {
            let whole = whole_runs.get(arm).copied().unwrap_or_default();
            let (samples, petaflops) = (spent.runs * whole.samples * share, spent.runs * whole.petaflops * share);
            Spending { samples, petaflops, ..*spent }
        };
        let in_race = |arm: &String| !self.baselines.iter().any(|baseline| baseline.name() == *arm);
        let mut arms: BTreeMap<String, RaceArm> = BTreeMap::new();
        let mut latest: BTreeMap<String, (f64, Spending)> = BTreeMap::new();
        let mut rungs = Vec::new();
        let mut before: Option<Vec<(String, f64)>> = None;
        for (number, rung) in self.rules.rungs.iter().enumerate() {
            let threshold = self.rules.threshold(number);
            let Some(trained) = progress.rungs.iter().find(|trained| trained.number == number) else {
                let (share, seeds, spent) = (rung.share, self.seeds(rung), Spending::default());
                rungs.push(RungRecord { share, seeds, arms: 0, threshold, dropped: vec![], tau: None, spent });
                continue;
            };
            let scores: Vec<(String, f64)> = trained.judged.iter().map(|j| (j.arm.clone(), j.average)).collect();
            let mut spent = Spending::default();
            for (arm, cost) in trained.spent.iter().filter(|(arm, _)| in_race(arm)) {
                let cost = priced(arm, cost, rung.share);
                spent = spent + cost;
                if cost.runs > 0.0 {
                    latest.insert(arm.clone(), (rung.share, cost));
                }
            }
            for judgement in &trained.judged {
                let score = trained.ranking.arm(&judgement.arm).map(|arm| arm.average);
                let average = score.map_or(Estimate { value: judgement.average, low: f64::NAN, high: f64::NAN }, |s| {
                    Estimate { value: s.score, low: s.low, high: s.high }
                });
                let (share, is_dropped, p_best_k) = (rung.share, judgement.is_dropped, judgement.p_best_k);
                let arm = judgement.arm.clone();
                arms.insert(arm.clone(), RaceArm { arm, rung: number + 1, share, is_dropped, average, p_best_k });
            }
            rungs.push(RungRecord {
                share: rung.share,
                seeds: trained.seeds.clone(),
                arms: trained.judged.len(),
                threshold,
                dropped: trained.judged.iter().filter(|j| j.is_dropped).map(|j| j.arm.clone()).collect(),
                tau: before.as_ref().and_then(|before| rung_agreement(before, &scores)),
                spent,
            });
            before = Some(scores);
        }
        let seeds = self.study.seeds.len() as f64;
        let whole = |(share, spent): &(f64, Spending)| (*spent * (1.0 / share)).for_runs(seeds);
        let mut record = RaceRecord {
            schema: SCHEMA,
            rules: self.rules.clone(),
            correction: self.rules.correction(),
            seeds: self.study.seeds.clone(),
            samples: whole_runs.values().map(|whole| whole.samples as usize).max().unwrap_or(0),
            spent: rungs.iter().map(|rung| rung.spent).sum(),
            grid: latest.values().map(whole).sum(),
            rungs,
            arms: arms.into_values().collect(),
        };
        record.sort();
        Ok(record)
    }

    /// Samples and operations of one run of each of these arms on all data; none if the size of the data is not known.
    fn whole_runs(
        &self,
        arms: &[&String],
        options: &StudyOptions,
        shown: &Progress,
    ) -> Result<BTreeMap<String, Spending>> {
        let mut study = self.study.clone();
        study.arms.retain(|arm| arms.contains(&&arm.name()));
        let recipe = &study.evaluator.recipe;
        let (align, tune) = (recipe.align.as_ref().map_or(0, |stage| stage.batch), recipe.tune.batch);
        let whole = |cost: &CostEstimate| {
            let (steps, flops) = cost.align.as_ref().map_or((0, 0.0), |stage| (stage.steps, stage.flops));
            Spending {
                samples: (steps * align as u64 + cost.tune.steps * tune as u64) as f64,
                petaflops: (flops + cost.tune.flops) / 1e15,
                ..Spending::default()
            }
        };
        let plan = plan::plan(&study, options, shown)?;
        Ok(plan.costs.iter().map(|planned| (planned.arm.clone(), whole(&planned.cost))).collect())
    }
}

/// Shortens a stage that is given in steps; one given in epochs gets shorter with the data.
fn shorten(stage: &mut Stage, share: f64) {
    if let Some(steps) = &mut stage.steps {
        *steps = ((*steps as f64 * share).round() as usize).max(1);
    }
}

/// The finished runs of a rung.
fn finished(part: &RungStudy) -> Result<Vec<RunData>> {
    let dir = part.dir();
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut data = StudyData::load(&dir)?;
    let wanted = |run: &RunData| {
        let id = &run.results.run;
        part.study.seeds.contains(&id.seed) && part.study.arms.iter().any(|arm| arm.name() == id.arm)
    };
    data.runs.retain(wanted);
    Ok(data.runs)
}

/// What a run cost: tokens and seconds of its steps, and seconds of its answers.
fn measured(run: &RunData) -> Spending {
    Spending {
        runs: 1.0,
        samples: 0.0,
        tokens: run.steps.iter().map(|step| step.tokens as f64).sum(),
        train_seconds: run.results.cost.train_seconds,
        answer_seconds: run.results.results.values().map(|result| result.seconds).sum(),
        petaflops: 0.0,
    }
}
