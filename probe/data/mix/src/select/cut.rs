//! Cuts groups of entries to a number, by order or by seeded draws.

use super::Cut;
use burgess_base::stream::{stream, uniform};
use burgess_base::{Error, Result};
use rand::Rng;

/// Entries in the order of their pools, each in one group, and whether each is still in the selection.
///
/// It is passed through the rules of a selection one after the other, each of which removes entries.
#[derive(Debug, Clone)]
pub struct Grouped {
    /// Entries sorted by group, in their order within a group.
    by_group: Vec<u32>,
    /// For each group, where its entries begin in `by_group`, with one more element for the end.
    begins: Vec<usize>,
}

impl Grouped {
    /// Sorts entries by group; `group(i)` is the group of entry `i`, below `groups`.
    ///
    /// # Errors
    /// There are 2³² entries or more, or a group is not below `groups`.
    pub fn new(entries: usize, groups: usize, group: impl Fn(usize) -> usize) -> Result<Self> {
        let count = u32::try_from(entries)
            .map_err(|_| Error::failed(format!("{entries} entries are too many, expected fewer than {}", u32::MAX)))?;
        let mut begins = vec![0usize; groups + 1];
        for i in 0..entries {
            let at = group(i);
            match begins.get_mut(at + 1) {
                Some(size) => *size += 1,
                None => return Err(Error::failed(format!("entry {i} is in group {at}, expected one below {groups}"))),
            }
        }
        let mut sum = 0;
        for begin in &mut begins {
            sum += *begin;
            *begin = sum;
        }
        let mut next = begins.clone();
        let mut by_group = vec![0u32; entries];
        for i in 0..count {
            if let Some(at) = next.get_mut(group(i as usize)) {
                if let Some(place) = by_group.get_mut(*at) {
                    *place = i;
                }
                *at += 1;
            }
        }
        Ok(Self { by_group, begins })
    }

    /// Returns the entries of a group in their order.
    pub fn members(&self, group: usize) -> &[u32] {
        match (self.begins.get(group), self.begins.get(group + 1)) {
            (Some(begin), Some(end)) => self.by_group.get(*begin..*end).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Returns the entries of a group that `cut` removes from those for which `alive` is true.
    ///
    /// Draws come from a stream of their own for `name`, one for each entry of the group, also for those that are not
    /// alive: so another rule before this one changes the selection only where it must, and a larger number keeps all
    /// that a smaller one keeps.
    pub fn removed(&self, group: usize, cut: Cut, alive: impl Fn(u32) -> bool, name: &str, seed: u64) -> Vec<u32> {
        let members = self.members(group);
        let living = || members.iter().copied().filter(|i| alive(*i));
        match cut {
            Cut::All => Vec::new(),
            Cut::First(most) => living().skip(usize::try_from(most).unwrap_or(usize::MAX)).collect(),
            Cut::Sample(most) => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let mut draws = stream(name, seed);
                let drawn = members.iter().map(|i| (draws.next_u64(), *i));
                let mut drawn: Vec<(u64, u32)> = drawn.filter(|(_, i)| alive(*i)).collect();
                if drawn.len() <= most {
                    return Vec::new();
                }
                drawn.select_nth_unstable(most);
                drawn.into_iter().skip(most).map(|(_, i)| i).collect()
            }
            Cut::Probability(p) => {
                let mut draws = stream(name, seed);
                members.iter().copied().filter(|i| (uniform(&mut draws) >= p) & alive(*i)).collect()
            }
        }
    }
}
