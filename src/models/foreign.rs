//! Models that other programs trained, from safetensors files that name their weights as those
//! programs do and carry their configuration and normalization.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::file::{Contents, ModelInfo};
use super::{
    Architecture, CaitConfig, Family, FamilyConfig as _, InitialWeights, ModelConfig, PitConfig,
    Pool, SelfScores, SwinConfig, T2tConfig, Temperature, VitConfig,
};
use crate::data::pictures::Fit;
use crate::error::{Error, Result};
use crate::nn::sequence::sinusoids;
use crate::params::{Arrays, keras, pytorch};

/// A model in this program's terms: what it needs to know, and its weights.
pub struct Foreign {
    /// Configuration, classes, normalization.
    pub info: ModelInfo,
    /// By this program's names.
    pub weights: Arrays,
    /// What neither the file nor the caller says, and what is taken for it: `model.dropout = 0.1`.
    pub assumed: Vec<String>,
}

/// What the caller says of a model; what is left out comes from the file.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The classes' names; none for those that are numbers.
    pub classes: Vec<String>,
    /// Dropout rate of attention probabilities and of the blocks' MLPs.
    pub dropout: Option<f64>,
    /// Dropout rate in the classifier.
    pub head_dropout: Option<f64>,
}

impl Given {
    /// Refuses rates that cannot be, by the model's own check.
    fn check(&self) -> Result<()> {
        let vit = VitConfig::default();
        let rates = VitConfig {
            dropout: self.dropout.unwrap_or(vit.dropout),
            head_dropout: self.head_dropout.unwrap_or(vit.head_dropout),
            ..vit
        };
        rates.check(true, true)
    }
}

/// What a file that another program's model was saved to says under a key of its metadata.
fn told<T: DeserializeOwned>(contents: &Contents, key: &str) -> Result<T> {
    contents.json(key).map_err(|error| match error {
        Error::Model { place, problem, .. } => {
            let remedy = format!(
                "save the weights again, with the model's `{key}` as JSON in the file's metadata"
            );
            Error::model(place, problem, remedy)
        }
        error => error,
    })
}

/// The first that is given, or `default`, of which a note is made.
fn known(field: &str, given: [Option<f64>; 2], default: f64, assumed: &mut Vec<String>) -> f64 {
    let [first, second] = given;
    first.or(second).unwrap_or_else(|| {
        assumed.push(format!("model.{field} = {default:?}"));
        default
    })
}

/// The classes' names: those given, of which there must be as many as classes, or their numbers.
fn classes(file: &Path, given: Vec<String>, count: usize) -> Result<Vec<String>> {
    if !(2..=1 << 20).contains(&count) {
        return Err(Error::model(
            file.display(),
            format!("its configuration says {count} classes"),
            "write the configuration that belongs to the weights",
        ));
    }
    if given.is_empty() {
        return Ok((0..count).map(|class| class.to_string()).collect());
    }
    let refuse = |problem: String| {
        let remedy = "name each class once, in the order of the class numbers";
        Err(Error::recipe("classes", problem, remedy))
    };
    if given.len() != count {
        return refuse(format!("{} names for {count} classes", given.len()));
    }
    let mut sorted: Vec<&str> = given.iter().map(|name| name.trim()).collect();
    sorted.sort_unstable();
    if sorted[0].is_empty() {
        return refuse("a name is empty".into());
    }
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => refuse(format!("`{}` is named twice", pair[0])),
        None => Ok(given),
    }
}

/// The metadata's `config`, in the words of the Keras example.
#[derive(Deserialize)]
struct KerasConfig {
    num_classes: usize,
    input: [usize; 3],
    image_size: usize,
    patch_size: usize,
    layers: usize,
    projection_dim: usize,
    num_heads: usize,
    key_dim: usize,
    transformer_units: Vec<usize>,
    mlp_head_units: Vec<usize>,
    layer_norm_eps: Option<f64>,
    dropout: Option<f64>,
    head_dropout: Option<f64>,
}

/// A model of the Keras example: weights as `weights.block0.attention.query.kernel`, the
/// normalization as `normalization.mean` and `.variance`, the configuration as JSON in the
/// metadata's `config`, in which dropout rates and the layer normalisations' ε may be left out.
///
/// # Errors
/// [`Error::Model`] where something of it is missing or impossible, [`Error::Recipe`] where what is
/// given is, or the classes' names are not as many as the classes.
pub fn from_keras(file: &Path, given: Given) -> Result<Foreign> {
    given.check()?;
    let mut contents = Contents::read(file)?;
    let config: KerasConfig = told(&contents, "config")?;
    let refuse = |problem: String, remedy: &str| Error::model(file.display(), problem, remedy);
    let units = &config.transformer_units;
    let &[mlp_width, last] = &units[..] else {
        return Err(refuse(
            format!("its transformer_units {units:?} are not two widths"),
            "only blocks whose MLP has two layers can be imported",
        ));
    };
    if last != config.projection_dim {
        return Err(refuse(
            format!(
                "the last of its transformer_units, {last}, is not projection_dim = {}",
                config.projection_dim
            ),
            "an MLP's output is added to the tokens, so it must be as wide as they are",
        ));
    }
    let weights = contents.take("weights")?;
    let mut normalization = contents.take("normalization")?;
    let mut channels = |name: &str| match normalization.remove(name) {
        Some(array) => Ok(array.values),
        None => Err(refuse(
            format!("there is no normalization.{name}"),
            "write the Normalization layer's mean and variance into the file",
        )),
    };
    let (mean, variance) = (channels("mean")?, channels("variance")?);
    let (vit, mut assumed) = (VitConfig::default(), vec![]);
    let mut known = |field, given, default| known(field, given, default, &mut assumed);
    let epsilon = [None, config.layer_norm_eps];
    let info = ModelInfo {
        fit: Fit::Crop,
        config: ModelConfig {
            spt: weights.contains_key("patch.layer_norm.gamma"),
            lsa: weights.contains_key("block0.attention.tau"),
            arch: VitConfig {
                image_size: config.image_size,
                patch_size: config.patch_size,
                dim: config.projection_dim,
                depth: config.layers,
                heads: config.num_heads,
                key_dim: config.key_dim,
                mlp_width,
                head: config.mlp_head_units,
                dropout: known("dropout", [given.dropout, config.dropout], vit.dropout),
                head_dropout: known(
                    "head_dropout",
                    [given.head_dropout, config.head_dropout],
                    vit.head_dropout,
                ),
                layer_norm_epsilon: known("layer_norm_epsilon", epsilon, vit.layer_norm_epsilon),
                ..vit
            }
            .into(),
        },
        input: config.input,
        classes: classes(file, given.classes, config.num_classes)?,
        mean,
        variance,
    };
    let weights = keras::translate(weights);
    Ok(Foreign {
        info,
        weights,
        assumed,
    })
}

/// The metadata's `config`: the arguments of the paper's models, those that all have.
#[derive(Deserialize)]
struct PaperConfig {
    img_size: usize,
    num_classes: usize,
    #[serde(rename = "is_SPT")]
    spt: bool,
    #[serde(rename = "is_LSA")]
    lsa: bool,
    dropout: Option<f64>,
    stochastic_depth: Option<f64>,
}

/// Those of its `ViT`.
#[derive(Deserialize)]
struct PaperVit {
    patch_size: usize,
    dim: usize,
    depth: usize,
    heads: usize,
    dim_head: usize,
    mlp_dim_ratio: usize,
}

/// Those of its `T2T_ViT`.
#[derive(Deserialize)]
struct PaperT2t {
    embed_dim: usize,
    depth: usize,
    num_heads: usize,
    mlp_ratio: f64,
    token_dim: usize,
}

/// Those of its `CaiT`.
#[derive(Deserialize)]
struct PaperCait {
    patch_size: usize,
    dim: usize,
    depth: usize,
    cls_depth: usize,
    heads: usize,
    dim_head: usize,
    mlp_dim: usize,
}

/// Those of its `PiT`.
#[derive(Deserialize)]
struct PaperPit {
    patch_size: usize,
    dim: usize,
    depth: Vec<usize>,
    heads: Vec<usize>,
    dim_head: usize,
    mlp_dim_ratio: usize,
}

/// Those of its `SwinTransformer`.
#[derive(Deserialize)]
struct PaperSwin {
    patch_size: usize,
    embed_dim: usize,
    depths: Vec<usize>,
    num_heads: Vec<usize>,
    window_size: usize,
    mlp_ratio: usize,
}

/// The metadata's `normalization`: of a pixel divided by 255.
#[derive(Deserialize)]
struct PaperNormalization {
    mean: Vec<f64>,
    std: Vec<f64>,
}

/// ε of all the paper's layer normalisations.
const PAPER_EPSILON: f64 = 1e-5;

/// The paper's rates of dropout, in front of the classifier too, and of stochastic depth.
struct Rates {
    dropout: f64,
    head_dropout: f64,
    stochastic_depth: f64,
}

/// A model of the paper's code (arXiv 2112.13492): weights as
/// `weight.transformer.layers.0.0.fn.to_qkv.weight`, and in the metadata the `family`, the
/// `config` (JSON, its constructor's arguments) and the `normalization` (JSON, `mean` and `std` of
/// pixel / 255). All five of its families can be read.
///
/// # Errors
/// As [`from_keras`].
pub fn from_pytorch(file: &Path, given: Given) -> Result<Foreign> {
    given.check()?;
    let mut contents = Contents::read(file)?;
    let name = contents.text("family").unwrap_or("vit").to_owned();
    let of_paper = |family: &Family| *family != Family::Hybrid && family.name() == name;
    let Some(family) = Family::ALL.into_iter().find(of_paper) else {
        return Err(Error::model(
            file.display(),
            format!("it is a {name}, and there is no model of that family in the paper's code"),
            "import a vit, t2t, cait, pit or swin",
        ));
    };
    let config: PaperConfig = told(&contents, "config")?;
    let normalization: PaperNormalization = told(&contents, "normalization")?;
    // What its constructor does where it is told nothing.
    let mut assumed = vec![];
    let mut known = |field, given| known(field, given, 0.0, &mut assumed);
    let rates = Rates {
        dropout: known("dropout", [given.dropout, config.dropout]),
        // Its classifier has none.
        head_dropout: given.head_dropout.unwrap_or(0.0),
        stochastic_depth: known("stochastic_depth", [None, config.stochastic_depth]),
    };
    let image_size = config.img_size;
    let arch: Architecture = match family {
        Family::T2t => {
            let config: PaperT2t = told(&contents, "config")?;
            if config.mlp_ratio.fract() != 0.0 || !(0.0..=64.0).contains(&config.mlp_ratio) {
                return Err(Error::model(
                    file.display(),
                    format!("its mlp_ratio is {}", config.mlp_ratio),
                    "import a model whose mlp_ratio is a whole number, at most 64",
                ));
            }
            paper_t2t(config, image_size, rates).into()
        }
        Family::Cait => paper_cait(told(&contents, "config")?, image_size, rates).into(),
        Family::Pit => paper_pit(told(&contents, "config")?, image_size, rates).into(),
        Family::Swin => paper_swin(told(&contents, "config")?, image_size, rates).into(),
        Family::Vit | Family::Hybrid => {
            paper_vit(told(&contents, "config")?, image_size, rates).into()
        }
    };
    let info = ModelInfo {
        fit: Fit::Crop,
        config: ModelConfig {
            spt: config.spt,
            lsa: config.lsa,
            arch,
        },
        input: [image_size, image_size, 3],
        classes: classes(file, given.classes, config.num_classes)?,
        mean: normalization
            .mean
            .iter()
            .map(|mean| (255.0 * mean) as f32)
            .collect(),
        variance: normalization
            .std
            .iter()
            .map(|deviation| (255.0 * deviation).powi(2) as f32)
            .collect(),
    };
    let mut weights = contents.take("weight")?;
    if family == Family::T2t {
        check_t2t(file, &mut weights)?;
    }
    let weights = pytorch::translate(family, weights, 3);
    Ok(Foreign {
        info,
        weights,
        assumed,
    })
}

/// Takes away what the paper's T2T has and does not learn: a normalisation that nothing reads, and the
/// sinusoids of its positions, which must be those.
fn check_t2t(file: &Path, weights: &mut Arrays) -> Result<()> {
    weights.remove("tokens_to_token.norm.weight");
    weights.remove("tokens_to_token.norm.bias");
    let Some(positions) = weights.remove("pos_embed") else {
        return Ok(());
    };
    let &[1, tokens, dim] = &positions.shape[..] else {
        return Ok(());
    };
    let pairs = sinusoids(tokens, dim).into_iter().zip(&positions.values);
    match pairs
        .into_iter()
        .all(|(own, theirs)| (own - theirs).abs() < 1e-5)
    {
        true => Ok(()),
        false => Err(Error::model(
            file.display(),
            "its pos_embed is not that of sines and cosines",
            "import a model of the paper's code, whose positions are not trained",
        )),
    }
}

fn paper_vit(config: PaperVit, image_size: usize, rates: Rates) -> VitConfig {
    VitConfig {
        image_size,
        patch_size: config.patch_size,
        dim: config.dim,
        depth: config.depth,
        heads: config.heads,
        key_dim: config.dim_head,
        mlp_width: config.dim.saturating_mul(config.mlp_dim_ratio),
        mlp_second_gelu: false,
        qkv_bias: false,
        temperature: Temperature::Head,
        relative_position: false,
        pool: Pool::Class,
        head: vec![],
        dropout: rates.dropout,
        head_dropout: rates.head_dropout,
        stochastic_depth: rates.stochastic_depth,
        layer_scale: None,
        layer_norm_epsilon: PAPER_EPSILON,
        initial: InitialWeights::Paper,
    }
}

fn paper_t2t(config: PaperT2t, image_size: usize, rates: Rates) -> T2tConfig {
    T2tConfig {
        image_size,
        soft_splits: if image_size == 64 { 3 } else { 2 },
        token_dim: config.token_dim,
        dim: config.embed_dim,
        depth: config.depth,
        heads: config.num_heads,
        mlp_ratio: config.mlp_ratio as usize,
        second_shortcut: true,
        dropout: rates.dropout,
        head_dropout: rates.head_dropout,
        stochastic_depth: rates.stochastic_depth,
        layer_norm_epsilon: PAPER_EPSILON,
    }
}

fn paper_cait(config: PaperCait, image_size: usize, rates: Rates) -> CaitConfig {
    CaitConfig {
        image_size,
        patch_size: config.patch_size,
        dim: config.dim,
        depth: config.depth,
        class_depth: config.cls_depth,
        heads: config.heads,
        key_dim: config.dim_head,
        mlp_width: config.mlp_dim,
        self_scores: SelfScores::Zero,
        dropout: rates.dropout,
        head_dropout: rates.head_dropout,
        stochastic_depth: rates.stochastic_depth,
        layer_norm_epsilon: PAPER_EPSILON,
    }
}

/// The widths of stages of which each is twice as wide as the one before.
fn doubling(first: usize, stages: usize) -> Vec<usize> {
    let wider = |stage: u32| first.saturating_mul(1usize.checked_shl(stage).unwrap_or(0));
    (0..stages as u32).map(wider).collect()
}

fn paper_pit(config: PaperPit, image_size: usize, rates: Rates) -> PitConfig {
    PitConfig {
        image_size,
        patch_size: config.patch_size,
        dims: doubling(config.dim, config.depth.len()),
        depths: config.depth,
        heads: config.heads,
        head_dim: config.dim_head,
        mlp_ratio: config.mlp_dim_ratio,
        dropout: rates.dropout,
        head_dropout: rates.head_dropout,
        stochastic_depth: rates.stochastic_depth,
        layer_norm_epsilon: PAPER_EPSILON,
    }
}

fn paper_swin(config: PaperSwin, image_size: usize, rates: Rates) -> SwinConfig {
    SwinConfig {
        image_size,
        patch_size: config.patch_size,
        dims: doubling(config.embed_dim, config.depths.len()),
        depths: config.depths,
        heads: config.num_heads,
        window: config.window_size,
        mlp_ratio: config.mlp_ratio,
        dropout: rates.dropout,
        head_dropout: rates.head_dropout,
        stochastic_depth: rates.stochastic_depth,
        layer_norm_epsilon: PAPER_EPSILON,
    }
}
