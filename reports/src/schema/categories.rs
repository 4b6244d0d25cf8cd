//! Categories of benchmarks, and names of arms in text.

use burgess_base::Category;
use std::collections::BTreeMap;

/// Returns the mean score per category of (category, score) pairs.
pub fn category_means<'a>(scores: impl IntoIterator<Item = (&'a Category, f64)>) -> BTreeMap<Category, f64> {
    let mut sums: BTreeMap<&Category, (f64, f64)> = BTreeMap::new();
    for (category, score) in scores {
        let entry = sums.entry(category).or_default();
        entry.0 += score;
        entry.1 += 1.0;
    }
    sums.into_iter().map(|(category, (sum, n))| (category.clone(), sum / n)).collect()
}

/// Returns the categories over which an average is taken: those that count ([`Category::is_averaged`]), or all if none
/// does.
pub fn averaged<'a>(categories: impl IntoIterator<Item = &'a Category>) -> Vec<&'a Category> {
    let all: Vec<&Category> = categories.into_iter().collect();
    let counted: Vec<&Category> = all.iter().copied().filter(|c| c.is_averaged()).collect();
    if counted.is_empty() { all } else { counted }
}

/// Returns categories in display order: the four of the Cambrian-1 paper first, then others by name.
pub fn in_display_order<'a>(categories: impl IntoIterator<Item = &'a Category>) -> Vec<Category> {
    let mut categories: Vec<Category> = categories.into_iter().cloned().collect();
    categories.sort_by(|a, b| a.rank().cmp(&b.rank()).then_with(|| a.cmp(b)));
    categories.dedup();
    categories
}

/// Returns the name of an arm in text: `nano-clip-unfrozen` becomes `nano-clip (unfrozen)`; other names stay unchanged.
pub fn label(arm: &str, encoders: &[String], freeze: &str) -> String {
    let joined = encoders.join("+");
    if freeze == "unfrozen" && arm == format!("{joined}-unfrozen") {
        format!("{joined} (unfrozen)")
    } else {
        arm.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_weighs_categories_equally() {
        let means =
            category_means([(&Category::GENERAL, 10.0), (&Category::GENERAL, 30.0), (&Category::KNOWLEDGE, 50.0)]);
        assert_eq!(means.values().copied().collect::<Vec<_>>(), [20.0, 50.0]);
    }

    #[test]
    fn conversation_is_not_part_of_the_average_unless_it_is_all_there_is() {
        let (general, own) = (Category::GENERAL, Category::new("Audio"));
        assert_eq!(averaged([&general, &Category::CONVERSATION, &own]), [&general, &own]);
        assert_eq!(averaged([&Category::CONVERSATION]), [&Category::CONVERSATION]);
    }

    #[test]
    fn categories_of_the_paper_come_first_and_others_by_name() {
        let named = ["Vision-centric", "General", "Audio", "OCR & Chart", "General"].map(Category::new);
        let shown = in_display_order(&named);
        assert_eq!(shown, ["General", "OCR & Chart", "Vision-centric", "Audio"]);
    }

    #[test]
    fn unfrozen_arms_are_labelled() {
        let one = ["nano-clip".to_string()];
        assert_eq!(label("nano-clip-unfrozen", &one, "unfrozen"), "nano-clip (unfrozen)");
        assert_eq!(label("nano-clip", &one, "frozen"), "nano-clip");
        assert_eq!(label("mine", &one, "unfrozen"), "mine");
    }
}
