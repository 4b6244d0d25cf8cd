//! ConvNeXts and ResNets by timm's names (made by `tests/reference/convnets.py`).

use burgess_base::Result;
use burgess_encoders::card::EncoderCard;
use burgess_encoders::encoder::Encoder;
use burn::tensor::Device;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

#[test]
fn configurations_of_timm_amount_to_the_card() -> Result<()> {
    for name in ["convnextv2", "convnext-hnf", "convnext-simple", "convnext-rms", "resnet", "resnet-d", "resnet-t"] {
        let folder = golden("encoders").join(name);
        let expected = EncoderCard::from_file(&folder.join("card.toml"))?;
        let found = EncoderCard::open(&folder.display().to_string())?;
        assert_eq!(found.architecture, expected.architecture, "{name}");
        assert_eq!(found.source.dialect, expected.source.dialect, "{name}");
        assert_eq!((&found.tap, found.preprocess.mean), (&expected.tap, expected.preprocess.mean), "{name}");
        Encoder::load(found, None, &Device::flex())?;
    }
    Ok(())
}
