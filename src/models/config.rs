//! What a model is, as data: its family with the family's sizes, and which of the paper's two
//! ideas it has; the `[model]` table of a recipe.
//!
//! ```toml
//! [model]
//! family = "vit"
//! spt = true
//! lsa = true
//! image_size = 32      # from here on the family's own fields
//! patch_size = 4
//! ```
//!
//! In memory the family's fields are apart ([`Architecture`]), in a recipe or a model file they
//! stand side by side with the others. A new family is a struct with [`FamilyConfig`] and an `image_size`, and a line
//! in this file's list of families; its names (`sl-…`) follow.

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::cait_config::CaitConfig;
use super::hybrid_config::HybridConfig;
use super::pit_config::PitConfig;
use super::swin_config::SwinConfig;
use super::t2t_config::T2tConfig;
use super::vit_config::VitConfig;
use crate::error::{Error, Result};
use crate::strict;

/// What every family's own sizes can say of the model.
pub trait FamilyConfig: Default + Serialize + DeserializeOwned {
    /// Sizes in which every optional field has a value, to show what there is.
    fn example() -> Self {
        Self::default()
    }

    /// The sizes that a recipe for images of so many pixels a side takes the family with, where it says
    /// nothing of them: those of the paper's code for 32 pixels or 64, of families that it has.
    fn preset(_image_size: usize) -> Self {
        Self::default()
    }

    /// How the image is cut into the first tokens.
    fn cut(&self) -> Cut;

    /// Refuses values that cannot be with these switches, naming the field (`model.dim`) and the
    /// remedy. Whatever passes can be counted without overflow.
    fn check(&self, spt: bool, lsa: bool) -> Result<()>;

    /// The fields that make a parameter large, the one most to blame first; of none (`""`), those
    /// that make what is kept of an image large.
    fn fields_behind(&self, parameter: &str) -> &'static [&'static str];
}

/// How an image is cut into its first tokens. (Shifts of SPT are by half a patch.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Pixels a side of a patch.
    pub patch: usize,
    /// Pixels from one patch to the next; fewer where they overlap.
    pub stride: usize,
    /// Pixels of zeros around the image.
    pub padding: usize,
    /// Numbers that a token has.
    pub dim: usize,
}

impl Cut {
    /// Patches that do not overlap.
    pub(super) fn patches(patch: usize, dim: usize) -> Self {
        Self {
            patch,
            stride: patch,
            padding: 0,
            dim,
        }
    }
}

macro_rules! families {
    ($($(#[$about:meta])* $name:literal => $variant:ident($config:ty),)+) => {
        /// The families of models.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Family {
            $($(#[$about])* $variant,)+
        }

        impl Family {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// As recipes and messages have it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        /// A family with its sizes.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Architecture {
            $($(#[$about])* $variant($config),)+
        }

        impl Architecture {
            /// Which family it is of.
            pub fn family(&self) -> Family {
                match self {
                    $(Self::$variant(_) => Family::$variant,)+
                }
            }

            /// The family with its default sizes.
            pub fn default_of(family: Family) -> Self {
                match family {
                    $(Family::$variant => <$config>::default().into(),)+
                }
            }

            /// The family with its sizes for images of so many pixels a side: [`FamilyConfig::preset`].
            pub fn preset(family: Family, image_size: usize) -> Self {
                match family {
                    $(Family::$variant => <$config>::preset(image_size).into(),)+
                }
            }

            fn example(family: Family) -> Self {
                match family {
                    $(Family::$variant => <$config>::example().into(),)+
                }
            }

            fn read(family: Family, value: Value, path: &str, known: &Table) -> Result<Self> {
                match family {
                    $(Family::$variant => strict::read::<$config>(value, path, known).map(Self::from),)+
                }
            }
        }

        $(impl From<$config> for Architecture {
            fn from(config: $config) -> Self {
                Self::$variant(config)
            }
        })+

        impl ModelConfig {
            /// Pixels a side of the images that go in.
            pub fn image_size(&self) -> usize {
                match &self.arch {
                    $(Architecture::$variant(own) => own.image_size,)+
                }
            }

            /// The same model for images of another size.
            pub fn sized(&self, image_size: usize) -> Self {
                let mut sized = self.clone();
                match &mut sized.arch {
                    $(Architecture::$variant(own) => own.image_size = image_size,)+
                }
                sized
            }

            /// How the image is cut into the first tokens.
            pub fn cut(&self) -> Cut {
                match &self.arch {
                    $(Architecture::$variant(own) => own.cut(),)+
                }
            }

            /// Every field by itself.
            pub(super) fn check_fields(&self) -> Result<()> {
                match &self.arch {
                    $(Architecture::$variant(own) => own.check(self.spt, self.lsa),)+
                }
            }

            pub(super) fn fields_behind(&self, parameter: &str) -> &'static [&'static str] {
                match &self.arch {
                    $(Architecture::$variant(own) => own.fields_behind(parameter),)+
                }
            }
        }

        impl Serialize for ModelConfig {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let &Self { spt, lsa, .. } = self;
                let family = self.arch.family();
                match &self.arch {
                    $(Architecture::$variant(own) => Flat { family, spt, lsa, own }.serialize(to),)+
                }
            }
        }
    };
}

families! {
    /// The Vision Transformer (Dosovitskiy et al., arXiv 2010.11929).
    "vit" => Vit(VitConfig),
    /// The Tokens-to-Token Vision Transformer (Yuan et al., arXiv 2101.11986).
    "t2t" => T2t(T2tConfig),
    /// The class-attention Vision Transformer (Touvron et al., arXiv 2103.17239).
    "cait" => Cait(CaitConfig),
    /// The Pooling-based Vision Transformer (Heo et al., arXiv 2103.16302).
    "pit" => Pit(PitConfig),
    /// The Swin Transformer (Liu et al., arXiv 2103.14030).
    "swin" => Swin(SwinConfig),
    /// A hybrid of convolutions and attention.
    "hybrid" => Hybrid(HybridConfig),
}

/// A model: its family and sizes, and which of the two ideas of arXiv 2112.13492 it has.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Shifted Patch Tokenization: patches see half of their neighbours, too.
    pub spt: bool,
    /// Locality Self-Attention: a learned temperature, and no token attends to itself.
    pub lsa: bool,
    /// The family, and its own fields.
    pub arch: Architecture,
}

/// A model as it is written: one table.
#[derive(Serialize)]
struct Flat<'a, T> {
    family: Family,
    spt: bool,
    lsa: bool,
    #[serde(flatten)]
    own: &'a T,
}

/// The switches of all families, as they are read.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Switches {
    spt: bool,
    lsa: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            spt: true,
            lsa: true,
        }
    }
}

impl Default for ModelConfig {
    /// The Keras example's SL-ViT.
    fn default() -> Self {
        Self::default_of(Family::Vit)
    }
}

impl ModelConfig {
    /// A family's model with both switches on and the default sizes.
    pub fn default_of(family: Family) -> Self {
        let Switches { spt, lsa } = Switches::default();
        let arch = Architecture::default_of(family);
        Self { spt, lsa, arch }
    }

    /// A family's model in which every optional field has a value, to show what there is.
    pub fn example(family: Family) -> Self {
        let arch = Architecture::example(family);
        Self {
            arch,
            ..Self::default_of(family)
        }
    }

    /// The family that a `[model]` table asks for; `vit` where it says nothing.
    pub fn family_of(model: &Value, path: &str) -> Result<Family> {
        match model.get("family") {
            None => Ok(Family::Vit),
            Some(Value::String(name)) => name.parse().map_err(|error: Error| {
                Error::recipe(
                    format!("{path}.family"),
                    format!("there is no family \"{name}\""),
                    error.remedy(),
                )
            }),
            Some(other) => Err(Error::recipe(
                format!("{path}.family"),
                format!("{other} is no family's name"),
                format!("choose {}", strict::alternatives(&Family::names())),
            )),
        }
    }

    /// Reads a `[model]` table that stands at `path`: first its family, then the family's own
    /// fields. `known` is the whole of the settings with an example of each, as
    /// [`strict::read`] takes it.
    pub fn read(value: Value, path: &str, known: &Table) -> Result<Self> {
        let family = Self::family_of(&value, path)?;
        let mut own: Table = strict::read(value, path, known)?;
        own.remove("family");
        let switches = ["spt", "lsa"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), own.remove(name)?)))
            .collect();
        let Switches { spt, lsa } = strict::read(Value::Table(switches), path, known)?;
        let arch = Architecture::read(family, Value::Table(own), path, known)?;
        Ok(Self { spt, lsa, arch })
    }

    /// Refuses what cannot be built, or would be too large even for grey images of two classes,
    /// naming the field and the remedy. [`ModelConfig::check_for`] knows channels and classes.
    pub fn check(&self) -> Result<()> {
        self.check_for(1, 2)
    }

    /// The model's name: its family, and what of the paper it has.
    pub fn name(&self) -> ModelName {
        ModelName {
            spt: self.spt,
            lsa: self.lsa,
            family: self.arch.family(),
        }
    }

    /// The model with this name: the same sizes with other switches, or another family with its sizes for
    /// such images ([`FamilyConfig::preset`]).
    pub fn named(&self, name: ModelName) -> Self {
        let arch = if name.family == self.arch.family() {
            self.arch.clone()
        } else {
            Architecture::preset(name.family, self.image_size())
        };
        let ModelName { spt, lsa, .. } = name;
        Self { spt, lsa, arch }
    }
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let table = Value::Table(Table::deserialize(from)?);
        let read = Self::family_of(&table, "model").and_then(|family| {
            let example = Table::try_from(Self::example(family)).unwrap_or_default();
            let known = Table::from_iter([("model".to_owned(), Value::Table(example))]);
            Self::read(table, "model", &known)
        });
        read.map_err(|error| D::Error::custom(format!("{error}; {}", error.remedy())))
    }
}

impl Family {
    fn names() -> [&'static str; Self::ALL.len()] {
        Self::ALL.map(Self::name)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|family| family.name() == name);
        found.ok_or_else(|| no_such("family", name, &Self::names()))
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

/// A model by its usual name: `vit`, `spt-vit`, `lsa-vit`, and `sl-vit` with both ideas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelName {
    /// Whether it has Shifted Patch Tokenization.
    pub spt: bool,
    /// Whether it has Locality Self-Attention.
    pub lsa: bool,
    /// Its family.
    pub family: Family,
}

impl ModelName {
    /// All of them: family by family, the plainest first.
    pub const ALL: [Self; 4 * Family::ALL.len()] = {
        let plain = Self {
            spt: false,
            lsa: false,
            family: Family::Vit,
        };
        let mut all = [plain; 4 * Family::ALL.len()];
        let mut number = 0;
        while number < all.len() {
            all[number] = Self {
                spt: number % 2 == 1,
                lsa: number / 2 % 2 == 1,
                family: Family::ALL[number / 4],
            };
            number += 1;
        }
        all
    };

    /// All names, separated by commas: for help and messages.
    pub fn list() -> String {
        Self::ALL.map(|name| name.to_string()).join(", ")
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ideas = match (self.spt, self.lsa) {
            (false, false) => "",
            (true, false) => "spt-",
            (false, true) => "lsa-",
            (true, true) => "sl-",
        };
        f.pad(&format!("{ideas}{}", self.family))
    }
}

impl FromStr for ModelName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL
            .into_iter()
            .find(|model| model.to_string() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(|name| name.to_string());
            no_such("model", name, &names.each_ref().map(String::as_str))
        })
    }
}

impl Serialize for ModelName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let read: Result<Self> = name.parse();
        read.map_err(|error| D::Error::custom(format!("{error}; {}", error.remedy())))
    }
}

fn no_such(what: &str, name: &str, names: &[&str]) -> Error {
    let remedy = match strict::nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean {near}? There are {}", names.join(", ")),
        None => format!("choose {}", strict::alternatives(names)),
    };
    Error::recipe(name, format!("there is no {what} of this name"), remedy)
}

#[cfg(test)]
mod tests {
    use super::super::vit_config::{InitialWeights, Pool, Temperature};
    use super::*;

    fn read(text: &str) -> Result<ModelConfig> {
        let example = Table::try_from(ModelConfig::example(Family::Vit)).unwrap();
        let known = Table::from_iter([("model".to_owned(), Value::Table(example))]);
        ModelConfig::read(Value::Table(text.parse().unwrap()), "model", &known)
    }

    #[test]
    fn names_are_family_and_ideas() {
        let names = [
            "vit",
            "spt-vit",
            "lsa-vit",
            "sl-vit",
            "t2t",
            "spt-t2t",
            "lsa-t2t",
            "sl-t2t",
            "cait",
            "spt-cait",
            "lsa-cait",
            "sl-cait",
            "pit",
            "spt-pit",
            "lsa-pit",
            "sl-pit",
            "swin",
            "spt-swin",
            "lsa-swin",
            "sl-swin",
            "hybrid",
            "spt-hybrid",
            "lsa-hybrid",
            "sl-hybrid",
        ];
        assert_eq!(ModelName::ALL.len(), names.len());
        for (model, name) in ModelName::ALL.into_iter().zip(names) {
            assert_eq!(model.to_string(), name);
            assert_eq!(name.parse::<ModelName>().unwrap(), model);
            let json = serde_json::to_string(&model).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<ModelName>(&json).unwrap(), model);
            assert_eq!(ModelConfig::default().named(model).name(), model);
        }
        assert_eq!(ModelName::list(), names.join(", "));
        let model: ModelName = "sl-vit".parse().unwrap();
        assert!(model.spt && model.lsa);
        let error = "sl-vitt".parse::<ModelName>().unwrap_err();
        assert_eq!(error.to_string(), "sl-vitt: there is no model of this name");
        assert!(error.remedy().starts_with("did you mean sl-vit?"));
        let error = "resnet".parse::<ModelName>().unwrap_err();
        let remedy = error.remedy();
        assert!(remedy.starts_with("choose vit, spt-vit, "), "{remedy}");
        assert!(remedy.ends_with("lsa-hybrid or sl-hybrid"), "{remedy}");
    }

    #[test]
    fn an_empty_table_is_the_keras_examples_sl_vit() {
        let config = read("").unwrap();
        assert_eq!(config, ModelConfig::default());
        assert_eq!(config.name().to_string(), "sl-vit");
    }

    #[test]
    fn every_field_is_read_from_one_flat_table_and_written_to_it() {
        let text = r#"family = "vit"
spt = false
lsa = true
image_size = 32
patch_size = 4
dim = 192
depth = 9
heads = 12
key_dim = 16
mlp_width = 384
mlp_second_gelu = false
qkv_bias = false
temperature = "head"
relative_position = true
pool = "class"
head = []
dropout = 0.0
head_dropout = 0.25
stochastic_depth = 0.1
layer_scale = 0.0001
layer_norm_epsilon = 0.00001
initial = "paper"
"#;
        let expected = ModelConfig {
            spt: false,
            lsa: true,
            arch: Architecture::Vit(VitConfig {
                image_size: 32,
                patch_size: 4,
                dim: 192,
                depth: 9,
                heads: 12,
                key_dim: 16,
                mlp_width: 384,
                mlp_second_gelu: false,
                qkv_bias: false,
                temperature: Temperature::Head,
                relative_position: true,
                pool: Pool::Class,
                head: vec![],
                dropout: 0.0,
                head_dropout: 0.25,
                stochastic_depth: 0.1,
                layer_scale: Some(1e-4),
                layer_norm_epsilon: 1e-5,
                initial: InitialWeights::Paper,
            }),
        };
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(toml::to_string(&expected).unwrap(), text);
        assert_eq!(toml::from_str::<ModelConfig>(text).unwrap(), expected);
        let json = serde_json::to_value(&expected).unwrap();
        assert_eq!(json["family"], "vit");
        assert_eq!(json["patch_size"], 4);
        assert_eq!(json["layer_scale"], 1e-4);
        let text = serde_json::to_string(&expected).unwrap();
        assert_eq!(
            serde_json::from_str::<ModelConfig>(&text).unwrap(),
            expected
        );
        let text = serde_json::to_string(&ModelConfig::default()).unwrap();
        assert!(text.contains("\"layer_scale\":\"off\""), "{text}");
        assert_eq!(
            serde_json::from_str::<ModelConfig>(&text).unwrap(),
            ModelConfig::default()
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_path() {
        for (text, problem, remedy) in [
            (
                "family = \"vitt\"",
                "model.family: there is no family \"vitt\"",
                "did you mean vit?",
            ),
            ("family = 3", "model.family: 3 is no", "choose vit"),
            ("spt = 1", "model.spt: 1 is a whole", "true or false"),
            ("sptt = true", "model.sptt: there is no", "model.spt?"),
            (
                "dropot = 0.1",
                "model.dropot: there is no",
                "model.dropout?",
            ),
            (
                "zzz = 1",
                "model.zzz: there is no",
                "initial, family, lsa, spt",
            ),
            ("dim = -1", "model.dim: -1 is out of range", "such as 64"),
            (
                "head = [1, \"x\"]",
                "model.head[1]: \"x\" is a string",
                "such as 2048",
            ),
            (
                "layer_scale = \"no\"",
                "model.layer_scale: \"no\" is a string",
                "or \"off\"",
            ),
            (
                "pool = \"clas\"",
                "model.pool: there is no choice",
                "flatten, class, mean, sequence",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.to_string().starts_with(problem), "{error}");
            assert!(error.remedy().contains(remedy), "{}", error.remedy());
        }
        let error = serde_json::from_str::<ModelConfig>("{\"dimm\": 3}").unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("model.dimm: there is no such field"),
            "{message}"
        );
        assert!(message.contains("did you mean model.dim?"), "{message}");
    }
}
