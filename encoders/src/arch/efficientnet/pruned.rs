//! EfficientNets whose channels were pruned after training (Aflalo et al. 2020, arXiv:2002.08258). No rule gives the
//! remaining channels: a table has them.

use super::config::EfficientNetConfig;
use crate::timm::TimmArguments;
use burgess_base::Result;

/// One network per line: name in timm, stem channels, head channels, and for every block the channels of its depthwise
/// convolution, of its squeeze-and-excitation and of its output.
const TABLE: &str = include_str!("pruned.tsv");

/// Replaces the channels of `config` by those that remained in the network that `arguments` name.
///
/// # Errors
/// The table has no such network, or it has other blocks.
pub(super) fn apply(arguments: &TimmArguments, config: &mut EfficientNetConfig) -> Result<()> {
    let unknown = || arguments.invalid("its pruned channels are not known");
    let line = TABLE.lines().find(|line| line.split('\t').next() == Some(arguments.name())).ok_or_else(unknown)?;
    let numbers: Option<Vec<usize>> = line.split(['\t', ' ', '/']).skip(1).map(|number| number.parse().ok()).collect();
    let (stem, head, blocks) = match numbers.as_deref() {
        Some([stem, head, blocks @ ..]) => (*stem, *head, blocks.chunks_exact(3)),
        _ => return Err(unknown()),
    };
    if blocks.len() != config.stages.iter().map(Vec::len).sum::<usize>() {
        return Err(unknown());
    }
    (config.stem_channels, config.head_channels) = (stem, head);
    for (block, channels) in config.stages.iter_mut().flatten().zip(blocks) {
        if let [hidden, squeezed, output] = channels {
            (block.hidden, block.squeezed, block.channels) = (*hidden, *squeezed, *output);
        }
    }
    Ok(())
}
