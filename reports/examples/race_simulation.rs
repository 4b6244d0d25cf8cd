//! Races on recorded scores: how often a race finds the best arms of a full grid, and what it costs.
//!
//! ```sh
//! # the recorded nano study: 16 arms at an eighth, a quarter and all of the training data
//! cargo run --release -p burgess-reports --example race_simulation -- tests/golden/racing/nano.json
//! # with other rules
//! cargo run --release -p burgess-reports --example race_simulation -- tests/golden/racing/nano.json \
//!     k=3,rungs=0.125:0.25:1,seeds=1:1:1,margin=2
//! # pack the results of finished studies, each with its share of the training data
//! cargo run --release -p burgess-reports --example race_simulation -- --pack nano.json "nano, 16 arms" \
//!     0.125=runs/0.125/nano 0.25=runs/0.25/nano 1=runs/1/nano
//! ```

use burgess_base::{Error, Result, atomic};
use burgess_reports::load::StudyData;
use burgess_reports::racing::{RaceRules, RecordedScores, Simulation, SimulationOptions};
use burgess_reports::schema::RunResults;
use std::path::Path;

/// Cost of asking all questions of the nano study once, as a fraction of a full training: 13 s of 89 s, as
/// `burgess rank nano --dry-run` measures them on two idle cores.
const ANSWERING: f64 = 13.0 / 89.0;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--pack", file, about, studies @ ..] => pack(Path::new(file), about, studies),
        [file, rules @ ..] => simulate(Path::new(file), rules),
        [] => Err(Error::usage("give the file of recorded scores, or --pack FILE ABOUT SHARE=DIR…")),
    }
}

/// Packs the runs that every share has: arms that lack one are left out and named.
fn pack(file: &Path, about: &str, studies: &[&str]) -> Result<()> {
    let mut all: Vec<(f64, RunResults)> = Vec::new();
    for study in studies {
        let (share, dir) = study.split_once('=').ok_or_else(|| Error::usage(format!("{study} is not SHARE=DIR")))?;
        let share: f64 = share.parse().map_err(|_| Error::usage(format!("`{share}` is no fraction")))?;
        all.extend(StudyData::load(Path::new(dir))?.results().into_iter().map(|run| (share, run)));
    }
    let has = |arm: &str, share: f64| all.iter().any(|(s, run)| *s == share && run.run.arm == arm);
    let shares: Vec<f64> = all.iter().map(|(share, _)| *share).collect();
    let whole: Vec<(f64, RunResults)> =
        all.iter().filter(|(_, run)| shares.iter().all(|share| has(&run.run.arm, *share))).cloned().collect();
    for (share, run) in all.iter().filter(|run| !whole.contains(run)) {
        eprintln!("left out: {} seed {} at {share}, which another share lacks", run.run.arm, run.run.seed);
    }
    let packed = RecordedScores::pack(about, &whole)?;
    println!("{} runs of {} arms", packed.runs.len(), packed.arms().len());
    atomic::write_json(file, &packed)
}

fn simulate(file: &Path, rules: &[&str]) -> Result<()> {
    let scores: RecordedScores = atomic::read_json(file)?;
    println!("{}\n{} arms; seeds by share:", scores.about, scores.arms().len());
    for share in scores.shares() {
        println!("  {share}: {:?}", scores.seeds(share));
    }
    let given: Vec<&str> = match rules {
        [] => vec![
            "k=3,rungs=0.125:0.25:1,finish=false",
            "k=3,rungs=0.125:0.25:1",
            "k=3,rungs=0.125:0.25:1,margin=1,finish=false",
            "k=3,rungs=0.125:0.25:1,margin=2,finish=false",
            "k=3,rungs=0.125:0.25:1,level=0.2,finish=false",
            "k=3,rungs=0.125:1,finish=false",
            "k=1,rungs=0.125:0.25:1,finish=false",
        ],
        rules => rules.to_vec(),
    };
    for text in given {
        let rules: RaceRules = format!("replicates=2000,{text}").parse()?;
        let options = SimulationOptions { repetitions: 100, answering: ANSWERING, seed: 0 };
        let s = Simulation::of(&scores, &rules, &options)?;
        println!("\n{text}");
        println!("  found the best {} of the grid on the same questions in {} of {}", rules.k, s.found, s.repetitions);
        println!(
            "  dropped none of them in {}; found those of the recorded grid in {} (the grid itself in {})",
            s.kept, s.found_recorded, s.grid_found_recorded
        );
        println!("  {:.1} times less training, {:.1} with answers", s.training_ratio, s.total_ratio);
        let arms: Vec<String> = s.arms_at_rungs.iter().map(|arms| format!("{arms:.1}")).collect();
        println!("  arms at the rungs: {}", arms.join(", "));
        let best: Vec<String> = s.best.iter().take(rules.k + 2).map(|(arm, n)| format!("{arm} {n}")).collect();
        println!("  best of the grid: {}", best.join(", "));
    }
    Ok(())
}
