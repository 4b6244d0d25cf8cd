//! The rules that balance sources and kinds, on the records of the first pass.

use crate::mix::Mix;
use crate::names::source_key;
use crate::rule::Rule;
use crate::scan::{Record, Scan};
use crate::select::{Cut, Grouped, RatioPlan, ratio_stream};
use burgess_base::Result;

/// Applies `take`, the threshold and the ratios; returns the rules of the mix, and the numbers of the ratios.
pub fn balance(mix: &Mix, scan: &mut Scan) -> Result<(Vec<Rule>, Option<RatioPlan>)> {
    let takes: Vec<Option<u64>> = scan.registry.sources.iter().map(|source| source.take).collect();
    let has_take = takes.iter().any(Option::is_some);
    if has_take || mix.threshold.is_some() {
        let sources = scan.registry.sources.len();
        let source_of = |scan: &Scan, i: usize| {
            let group = scan.records.get(i).map_or(usize::MAX, |record| usize::from(record.group));
            scan.registry.groups.get(group).map_or(usize::MAX, |group| group.source)
        };
        let grouped = Grouped::new(scan.records.len(), sources, |i| source_of(scan, i))?;
        for (at, take) in takes.iter().enumerate().filter_map(|(at, take)| Some((at, (*take)?))) {
            let name = scan.registry.sources.get(at).map_or("", |source| source.name.as_str());
            let stream = format!("mix take {}", source_key(name));
            let removed = grouped.removed(at, Cut::Sample(take), |i| alive(scan, i), &stream, mix.seed);
            scan.remove(removed, Rule::Take);
        }
        if let Some(rule) = &mix.threshold {
            for at in 0..sources {
                let name = scan.registry.sources.get(at).map_or_else(String::new, |source| source.name.clone());
                let kind = grouped.members(at).first().and_then(|i| scan.records.get(*i as usize));
                let kind = kind.and_then(|record| scan.registry.groups.get(usize::from(record.group)));
                if rule.excepts(&name, kind.map_or("", |group| group.kind.as_str())) {
                    continue;
                }
                let counts = |i: u32| alive(scan, i) && (!rule.multimodal_only || has_image(scan, i));
                let count = grouped.members(at).iter().filter(|i| counts(**i)).count() as u64;
                let removed = grouped.removed(at, rule.cut(count), counts, &rule.stream(&name), mix.seed);
                scan.remove(removed, Rule::Threshold);
            }
        }
    }
    let mut plan = None;
    if let Some(rule) = &mix.ratios {
        let mut counts = vec![0u64; scan.registry.groups.len()];
        for record in scan.records.iter().filter(|record| record.is_alive()) {
            if let Some(count) = counts.get_mut(usize::from(record.group)) {
                *count += 1;
            }
        }
        let groups = scan.registry.groups.clone();
        let kinds: Vec<&str> = groups.iter().map(|group| group.kind.as_str()).collect();
        // Quotas of equal remainders go to the earlier group: in the order of names, not of occurrence.
        let mut order: Vec<usize> = (0..groups.len()).collect();
        let name = |at: usize| groups.get(at).and_then(|group| scan.registry.sources.get(group.source));
        order.sort_by_key(|at| (kinds.get(*at).copied(), name(*at).map(|source| source.name.clone())));
        let sorted_kinds: Vec<&str> = order.iter().filter_map(|at| kinds.get(*at)).copied().collect();
        let sorted_counts: Vec<u64> = order.iter().filter_map(|at| counts.get(*at)).copied().collect();
        let (quotas, numbers) = rule.quotas(&sorted_kinds, &sorted_counts)?;
        let group_of = |i: usize| scan.records.get(i).map_or(usize::MAX, |record| usize::from(record.group));
        let grouped = Grouped::new(scan.records.len(), groups.len(), group_of)?;
        for (at, quota) in order.into_iter().zip(quotas) {
            let source = name(at).map_or_else(String::new, |source| source.name.clone());
            let stream = ratio_stream(&source, kinds.get(at).copied().unwrap_or_default());
            let removed = grouped.removed(at, Cut::Sample(quota), |i| alive(scan, i), &stream, mix.seed);
            for i in removed {
                if let Some(record) = scan.records.get_mut(i as usize) {
                    record.remove(Rule::Ratios);
                }
            }
        }
        plan = Some(numbers);
    }
    Ok((Rule::of(mix, has_take), plan))
}

fn alive(scan: &Scan, i: u32) -> bool {
    scan.records.get(i as usize).is_some_and(Record::is_alive)
}

fn has_image(scan: &Scan, i: u32) -> bool {
    scan.records.get(i as usize).is_some_and(Record::has_image)
}
