//! Multiply-add operations of the layers of a MaxViT.

use super::config::{BlockSizes, MaxxVitBlockKind, MaxxVitConfig, MaxxVitConvKind, MaxxVitPositions, MaxxVitStride};

/// Operations of the stem.
pub(super) fn stem(config: &MaxxVitConfig) -> u64 {
    let side = (config.image_size / 2) as u64;
    let [first, second] = config.stem_widths.map(|n| n as u64);
    side * side * 9 * (3 * first + first * second)
}

/// Operations of one block.
pub(super) fn block(config: &MaxxVitConfig, sizes: &BlockSizes) -> u64 {
    let (input, output, tokens) = (sizes.input as u64, sizes.output as u64, (sizes.side * sizes.side) as u64);
    let hidden = |width: u64| config.mlp_hidden(width as usize) as u64;
    match sizes.kind {
        MaxxVitBlockKind::Conv => conv(config, sizes),
        MaxxVitBlockKind::Transformer => {
            let width = config.attention_width(sizes) as u64;
            let shortcut = if sizes.halves && input != output { tokens * input * output } else { 0 };
            let projections = tokens * (3 * input * width + width * output);
            let attention = 2 * tokens * tokens * width + positions(config, width, sizes.side);
            shortcut + projections + attention + tokens * 2 * output * hidden(output)
        }
        MaxxVitBlockKind::MultiAxis => {
            let part = |side: usize| {
                let attention = 4 * output * output + 2 * (side * side) as u64 * output;
                tokens * (attention + 2 * output * hidden(output)) + positions(config, output, side)
            };
            let windows = if config.attention.window_attention { part(config.attention.window) } else { 0 };
            conv(config, sizes) + windows + part(config.attention.grid)
        }
    }
}

/// Operations of the MLP of position biases, which runs once per block, whatever the batch.
fn positions(config: &MaxxVitConfig, width: u64, side: usize) -> u64 {
    if config.attention.positions != MaxxVitPositions::Mlp {
        return 0;
    }
    let offsets = ((2 * side - 1) * (2 * side - 1)) as u64;
    offsets * config.attention.position_hidden as u64 * (2 + width / config.attention.head_dim as u64)
}

fn conv(config: &MaxxVitConfig, sizes: &BlockSizes) -> u64 {
    let (input, output, side) = (sizes.input as u64, sizes.output as u64, sizes.side as u64);
    let (tokens, hidden) = (side * side, config.hidden(sizes) as u64);
    let before = if sizes.halves { 4 * tokens } else { tokens };
    match config.conv.kind {
        MaxxVitConvKind::Mbconv => {
            let shortcut = if sizes.halves && input != output { tokens * input * output } else { 0 };
            let first = if config.conv.stride == MaxxVitStride::Depthwise { before } else { tokens };
            let group = if config.conv.group_size == 0 { hidden } else { config.conv.group_size as u64 };
            let kernel = (config.conv.kernel * config.conv.kernel) as u64;
            let squeeze = 2 * hidden * config.squeezed(sizes) as u64;
            shortcut + first * input * hidden + tokens * hidden * (kernel * group + output) + squeeze
        }
        MaxxVitConvKind::Convnext => {
            let shortcut = if input == output { 0 } else { tokens * input * output };
            shortcut + tokens * output * (49 + 2 * hidden)
        }
    }
}
