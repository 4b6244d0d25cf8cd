//! The predictors: names, directions and definitions.

use burgess_base::{Error, Result};
use burgess_reports::predictors::{Better, Predictor, PredictorFamily};

/// The definition of a predictor, as a row of [`PREDICTORS`].
struct Definition {
    id: &'static str,
    name: &'static str,
    family: PredictorFamily,
    better: Better,
    about: &'static str,
}

/// Id of the loss of the align stage, before the number of steps.
pub const ALIGN_LOSS: &str = "align-loss";

use Better::{Higher, Lower, Unstated};
use PredictorFamily::{Alignment, Connector, Correspondence, Probe, Spread};

/// All predictors, in the order of tables.
const PREDICTORS: [Definition; 16] = [
    Definition {
        id: "knn",
        name: "k-NN",
        family: Probe,
        better: Higher,
        about: "accuracy of DINO's weighted vote (k = 20, T = 0.07) on image vectors, mean over the tasks, in %",
    },
    Definition {
        id: "linear",
        name: "linear probe",
        family: Probe,
        better: Higher,
        about: "accuracy of logistic regression on image vectors, mean over the tasks, in %",
    },
    Definition {
        id: "attentive",
        name: "attentive probe",
        family: Probe,
        better: Higher,
        about: "accuracy of a learned query over the patch tokens and a linear classifier, mean over the tasks, in %",
    },
    Definition {
        id: "linear-patch",
        name: "linear, patches",
        family: Probe,
        better: Higher,
        about: "accuracy of logistic regression on patch features, mean over the patch-level tasks, in %",
    },
    Definition {
        id: "c-score",
        name: "C score",
        family: Correspondence,
        better: Higher,
        about: "PCK@0.10 of corresponding points by window soft-argmax, mean over the pairs of images, in %",
    },
    Definition {
        id: "cka",
        name: "CKA",
        family: Alignment,
        better: Higher,
        about: "centred kernel alignment with the language model's features of the captions, best pair of layers",
    },
    Definition {
        id: "cka-unbiased",
        name: "CKA, unbiased",
        family: Alignment,
        better: Higher,
        about: "CKA with the unbiased HSIC, best pair of layers",
    },
    Definition {
        id: "cknna",
        name: "CKNNA",
        family: Alignment,
        better: Higher,
        about: "CKA over the pairs that are neighbours in both, best pair of layers",
    },
    Definition {
        id: "mutual-knn",
        name: "mutual k-NN",
        family: Alignment,
        better: Higher,
        about: "mean share of the nearest neighbours that image and caption have in common, best pair of layers",
    },
    Definition {
        id: "gromov-wasserstein",
        name: "Gromov-Wasserstein",
        family: Alignment,
        better: Lower,
        about: "mean squared difference of the distances between images and between their captions (identity \
                coupling), best pair of layers",
    },
    Definition {
        id: "effective-rank",
        name: "effective rank",
        family: Spread,
        better: Higher,
        about: "exponential of the entropy of the normalised singular values of the centred patch features",
    },
    Definition {
        id: "feature-mean",
        name: "feature mean",
        family: Spread,
        better: Unstated,
        about: "mean of all values of the patch features",
    },
    Definition {
        id: "feature-std",
        name: "feature std",
        family: Spread,
        better: Unstated,
        about: "standard deviation of all values of the patch features",
    },
    Definition {
        id: "a-score",
        name: "A score",
        family: Connector,
        better: Higher,
        about: "mean over image tokens after the aligned connector of the highest cosine with a token of the \
                reference arm",
    },
    Definition {
        id: ALIGN_LOSS,
        name: "align loss",
        family: Connector,
        better: Lower,
        about: "loss of the align stage, mean over the last tenth of the steps up to this one",
    },
    Definition {
        id: "parameters",
        name: "parameters",
        family: Spread,
        better: Higher,
        about: "number of parameters of the encoders, in millions",
    },
];

/// Ids of all predictors; that of the align loss is without its number of steps.
pub fn ids() -> Vec<&'static str> {
    PREDICTORS.iter().map(|p| p.id).collect()
}

/// Checks a choice of predictors.
///
/// # Errors
/// There is no predictor with one of these ids; the hint lists all.
pub fn check(chosen: &[String]) -> Result<()> {
    match chosen.iter().find(|id| !ids().contains(&id.as_str())) {
        Some(unknown) => {
            Err(Error::usage(format!("there is no predictor `{unknown}`")).hint(format!("known: {}", ids().join(", "))))
        }
        None => Ok(()),
    }
}

/// Returns the predictors of a choice in the order of tables, with one align loss for each number of `steps`; an empty
/// choice means all.
pub fn predictors(chosen: &[String], steps: &[usize]) -> Vec<Predictor> {
    let wanted = |id: &str| chosen.is_empty() || chosen.iter().any(|c| c == id);
    let mut all = Vec::new();
    for p in PREDICTORS.iter().filter(|p| wanted(p.id)) {
        let predictor = |id: String, name: String, about: &str| Predictor {
            id,
            name,
            family: p.family,
            better: p.better,
            about: about.to_string(),
        };
        match p.id {
            ALIGN_LOSS if !steps.is_empty() => all.extend(
                steps.iter().map(|n| predictor(format!("{ALIGN_LOSS}@{n}"), format!("align loss @{n}"), p.about)),
            ),
            id => all.push(predictor(id.to_string(), p.name.to_string(), p.about)),
        }
    }
    all
}
