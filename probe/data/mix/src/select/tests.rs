//! Selections are exact, nested, and the same for the same seed.

use super::*;

/// Items of sources `a` (ocr, 60), `b` (ocr, 30), `c` (language, 40, text only), interleaved.
fn items() -> Vec<Item<'static>> {
    let mut items = Vec::new();
    for i in 0..130 {
        let of = |source, kind| Item { source, kind, has_image: source != "c" };
        items.push(match i % 13 {
            0..=5 => of("a", "ocr"),
            6..=8 => of("b", "OCR"),
            _ => of("c", "language"),
        });
    }
    items
}

fn threshold(t: u64, how: ThresholdForm) -> Balance {
    Balance { threshold: Some(Threshold { t, how, ..Threshold::default() }), ratios: None }
}

fn counts(balanced: &Balanced) -> Vec<(u64, u64, u64)> {
    balanced.sources.values().map(|s| (s.before, s.after_threshold, s.after_ratios)).collect()
}

#[test]
fn a_hard_threshold_keeps_at_most_t_per_source() -> Result<()> {
    for how in [ThresholdForm::First, ThresholdForm::Reservoir] {
        let chosen = balance(&items(), &threshold(35, how), 0)?;
        assert_eq!(counts(&chosen), [(60, 35, 35), (30, 30, 30), (40, 35, 35)], "{how:?}");
        assert_eq!(chosen.kept.len(), 100);
        assert!(chosen.kept.is_sorted());
    }
    let first = balance(&items(), &threshold(2, ThresholdForm::First), 7)?;
    assert_eq!(first.kept, [0, 1, 6, 7, 9, 10]);
    Ok(())
}

#[test]
fn selections_are_those_of_the_seed_and_nested() -> Result<()> {
    for how in [ThresholdForm::Reservoir, ThresholdForm::Soft] {
        let kept = |t, seed| balance(&items(), &threshold(t, how), seed).map(|chosen| chosen.kept);
        assert_eq!(kept(20, 1)?, kept(20, 1)?);
        assert_ne!(kept(20, 1)?, kept(20, 2)?, "{how:?}");
        let (small, large) = (kept(20, 1)?, kept(30, 1)?);
        assert!(small.iter().all(|i| large.contains(i)) && small.len() < large.len(), "{how:?}");
    }
    // Another source changes nothing in this one.
    let only_a: Vec<Item<'_>> = items().into_iter().filter(|item| item.source == "a").collect();
    let places: Vec<usize> = (0..130).filter(|i| items()[*i].source == "a").collect();
    let of_all = balance(&items(), &threshold(20, ThresholdForm::Reservoir), 3)?.kept;
    let of_a = balance(&only_a, &threshold(20, ThresholdForm::Reservoir), 3)?.kept;
    let expected: Vec<usize> = of_a.iter().map(|i| places[*i]).collect();
    assert_eq!(of_all.into_iter().filter(|i| places.contains(i)).collect::<Vec<_>>(), expected);
    Ok(())
}

#[test]
fn every_entry_is_sampled_equally_often() -> Result<()> {
    let mut hits = [0u32; 130];
    let mut soft = 0;
    for seed in 0..400 {
        for i in balance(&items(), &threshold(15, ThresholdForm::Reservoir), seed)?.kept {
            hits[i] += 1;
        }
        soft += balance(&items(), &threshold(15, ThresholdForm::Soft), seed)?.sources["a"].after_threshold;
    }
    // Source a: 15 of 60 in 400 draws, 100 expected, standard deviation 8.7.
    let of_a: Vec<u32> = (0..130).filter(|i| items()[*i].source == "a").map(|i| hits[i]).collect();
    assert_eq!(of_a.iter().sum::<u32>(), 15 * 400);
    assert!(of_a.iter().all(|n| (60..140).contains(n)), "{of_a:?}");
    // Soft: the mean of 400 draws of Binomial(60, 1/4) has a standard deviation of 0.17.
    assert!((f64::from(u32::try_from(soft).unwrap_or(0)) / 400.0 - 15.0).abs() < 0.7, "{soft}");
    Ok(())
}

#[test]
fn exceptions_and_text_are_kept_whole() -> Result<()> {
    let mut rule = Threshold { t: 10, ..Threshold::default() };
    rule.except = vec!["Language".into(), "b_30k.json".into()];
    let rules = Balance { threshold: Some(rule), ratios: None };
    assert_eq!(counts(&balance(&items(), &rules, 0)?), [(60, 10, 10), (30, 30, 30), (40, 40, 40)]);
    let rule = Threshold { t: 10, multimodal_only: true, ..Threshold::default() };
    let rules = Balance { threshold: Some(rule), ratios: None };
    assert_eq!(counts(&balance(&items(), &rules, 0)?), [(60, 10, 10), (30, 10, 10), (40, 40, 40)]);
    assert_eq!(balance(&items(), &threshold(0, ThresholdForm::First), 0).unwrap_err().exit_code(), 2);
    assert_eq!(balance(&[], &threshold(5, ThresholdForm::First), 0)?.kept, Vec::<usize>::new());
    Ok(())
}

fn ratios(total: Option<u64>, shares: &[(&str, f64)], shortfall: Shortfall, within: Within) -> Balance {
    let shares = shares.iter().map(|(kind, share)| ((*kind).to_string(), *share)).collect();
    Balance { threshold: None, ratios: Some(Ratios { total, shares, shortfall, within }) }
}

#[test]
fn ratios_meet_their_total() -> Result<()> {
    let both = [("ocr", 60.0), ("language", 40.4)];
    let chosen = balance(&items(), &ratios(Some(50), &both, Shortfall::Fill, Within::Proportional), 0)?;
    // 50 · 60 / 100.4 = 29.88 and 20.12; of 90 entries for OCR 60 are of a.
    assert_eq!(counts(&chosen), [(60, 60, 20), (30, 30, 10), (40, 40, 20)]);
    let notes = chosen.ratios.map(|plan| plan.notes()).unwrap_or_default();
    assert!(notes.len() == 1 && notes[0].contains("sum to 100.4"), "{notes:?}");
    let even = balance(&items(), &ratios(Some(50), &both, Shortfall::Fill, Within::Even), 0)?;
    assert_eq!(counts(&even), [(60, 60, 15), (30, 30, 15), (40, 40, 20)]);
    // Language has 40 entries, 60 are wanted.
    let few = [("ocr", 0.4), ("language", 0.6), ("counting", 0.0)];
    let filled = balance(&items(), &ratios(Some(100), &few, Shortfall::Fill, Within::Proportional), 0)?;
    assert_eq!((counts(&filled), filled.kept.len()), (vec![(60, 60, 40), (30, 30, 20), (40, 40, 40)], 100));
    let notes = filled.ratios.map(|plan| plan.notes()).unwrap_or_default();
    assert!(notes[0].contains("`language` has 40 entries, its share is 60: 20 are missing"), "{notes:?}");
    let smaller = balance(&items(), &ratios(Some(100), &few, Shortfall::Smaller, Within::Proportional), 0)?;
    assert_eq!(smaller.kept.len(), 80);
    let e = balance(&items(), &ratios(Some(100), &few, Shortfall::Error, Within::Proportional), 0).unwrap_err();
    assert!(e.to_string().contains("`language` has 40 entries, its share of 100 is 60"), "{e}");
    // Without a total the largest: 40 / 0.6 = 66.
    let largest = balance(&items(), &ratios(None, &few, Shortfall::Error, Within::Proportional), 0)?;
    assert_eq!(largest.kept.len(), 66);
    // More than there is.
    let all = balance(&items(), &ratios(Some(1000), &few, Shortfall::Fill, Within::Even), 0)?;
    assert_eq!(all.kept.len(), 130);
    assert!(all.ratios.is_some_and(|plan| plan.notes().iter().any(|note| note.contains("870 fewer"))));
    let one = balance(&items(), &ratios(Some(10), &[("ocr", 1.0)], Shortfall::Fill, Within::Even), 0)?;
    assert_eq!(one.ratios.map(|plan| plan.without_share), Some(40));
    Ok(())
}

#[test]
fn wrong_ratios_are_errors_of_usage() {
    for (total, shares) in [
        (Some(0), vec![("ocr", 1.0)]),
        (None, vec![]),
        (None, vec![("ocr", 0.0)]),
        (None, vec![("ocr", -1.0), ("language", 2.0)]),
        (None, vec![("ocr", f64::NAN)]),
        (None, vec![("ocr", f64::INFINITY)]),
        (None, vec![("ocr", 1.0), ("OCR", 1.0)]),
    ] {
        let e = balance(&items(), &ratios(total, &shares, Shortfall::Fill, Within::Even), 0).unwrap_err();
        assert_eq!(e.exit_code(), 2, "{e}");
    }
}
