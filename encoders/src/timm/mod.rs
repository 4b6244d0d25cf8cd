//! timm's architectures by name: the table of the arguments with which timm builds them, and the interface by which a
//! configuration is made from these arguments.

mod arguments;

pub(crate) use arguments::{IGNORED, TimmArguments, times};

use burgess_base::Result;

/// A configuration that can be made from the arguments of one of timm's classes.
pub(crate) trait TimmModel: Sized {
    /// Names of timm's classes, such as `ResNet`; none for an architecture that timm does not have.
    const CLASSES: &'static [&'static str] = &[];

    /// Whether this configuration is made from the arguments. An architecture that timm builds with the class of
    /// another must recognise itself, and precede the other in the table of architectures.
    fn reads(arguments: &TimmArguments) -> bool {
        Self::CLASSES.contains(&arguments.class)
    }

    /// Reads the arguments of a class of [`TimmModel::CLASSES`], for images of `image_size` pixels. Every argument that
    /// matters must be read: one that is left over is an error of the caller.
    ///
    /// # Errors
    /// An argument has a value that is not supported.
    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        let _ = image_size;
        Err(arguments.invalid("this class is not supported"))
    }
}

/// A configuration made from timm's arguments.
pub(crate) struct TimmNetwork<C> {
    /// The configuration.
    pub config: C,
    /// Dialect of timm's files.
    pub dialect: &'static str,
    /// Note for the user on the card, if any.
    pub note: Option<String>,
}

impl<C> TimmNetwork<C> {
    /// The network of a configuration whose parameters have timm's names.
    pub fn new(config: C) -> Self {
        Self { config, dialect: "timm-layers", note: None }
    }

    /// Replaces the dialect.
    #[must_use]
    pub fn with_dialect(self, dialect: &'static str) -> Self {
        Self { dialect, ..self }
    }

    /// Applies `convert` to the configuration.
    pub fn map<D>(self, convert: impl FnOnce(C) -> D) -> TimmNetwork<D> {
        TimmNetwork { config: convert(self.config), dialect: self.dialect, note: self.note }
    }
}
