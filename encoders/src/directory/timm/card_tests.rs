//! Cards of timm's architectures against timm's own arguments.

use super::*;
use crate::card::EncoderCard;
use burgess_base::Result;
use serde_json::json;

#[test]
fn cards_of_hybrids_describe_what_timm_builds() -> Result<()> {
    for (card, name, own) in [
        ("caformer-b36-384", "caformer_b36", json!({})),
        ("mobileclip2-s4-256", "fastvit_mci4", json!({})),
        ("vitamin-l-336", "vitamin_large_336", json!({"drop_path_rate": 0.1})),
    ] {
        let card = EncoderCard::open(card)?;
        let model = model(name, &own, &Value::Null, card.preprocess.size)?;
        assert_eq!(card.architecture, model.config, "{name}");
        let parameters = checkpoint::parameters(&model.config.init(&Device::flex())?)?;
        let count: usize = parameters.iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
        assert_eq!(card.source.parameters, count as u64, "{name}");
    }
    Ok(())
}
