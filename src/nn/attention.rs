//! Self-attention with its residual, plain or Locality Self-Attention: y = x + s · γ ∘
//! attention(LN(x)).
//!
//! Attention(q, k, v) = softmax(scale · q · kᵀ + position) · v in each head (Vaswani and others,
//! arXiv 1706.03762, section 3.2), with scale = 1 / √key_dim.
//!
//! Locality Self-Attention (arXiv 2112.13492, section 3.2) makes two changes: the scale is learned,
//! and the diagonal of the scores is masked out, so that no token attends to itself. The Keras
//! example learns one τ a layer by which queries are divided; the paper's code one a head by which
//! scores are multiplied.
//!
//! `position` is a bias learned for each head and relative position in the grid of tokens (Liu and
//! others, *Swin Transformer*, arXiv 2103.14030, equation 4); towards and from a class token there
//! is none.
//!
//! In *windows* tokens attend to those of their own window alone, and `position` is that within a window
//! (the same, sections 3.2 and 3.3): [`smallvit_kernels::windows`].

use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};
use smallvit_kernels::attention::{APART, Attention, Position};
use smallvit_kernels::dropout::Rate;
use smallvit_kernels::matrix::Precision;
use smallvit_kernels::ops::ImageOp;
use smallvit_kernels::ops::attention as kernel;
use smallvit_kernels::windows::Windows;

use super::basic::{Dense, LayerNorm};
use super::residual::{self, ResidualConfig};
use super::{Attending, Context, Layer, NamedValue, value};
use crate::params::Array;
use crate::params::init::{DenseInit, Distribution, Initialiser};

/// What a masked score becomes: so low that its probability is exactly 0, yet finite.
pub(super) const MASKED: f32 = -1e9;

/// Which learned temperature an attention has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temperature {
    /// None: scores are divided by √key_dim.
    Constant,
    /// One τ for all heads, √key_dim at first; queries are divided by it.
    Layer,
    /// One τ a head, 1 / √key_dim at first; scores are multiplied by it.
    Head,
}

/// What an attention is told.
#[derive(Clone, Debug)]
pub struct AttentionConfig {
    /// Width of a token.
    pub dim: usize,
    /// Tokens that attend to each other: an image's, or a window's.
    pub tokens: usize,
    /// The windows; none where all tokens attend to each other.
    pub windows: Option<Windows>,
    /// Heads.
    pub heads: usize,
    /// Width of a head's queries, keys and values.
    pub key_dim: usize,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Locality Self-Attention's temperature.
    pub temperature: Temperature,
    /// Whether no token attends to itself.
    pub mask_diagonal: bool,
    /// The bias by relative position, where there is one.
    pub position: Option<Position>,
    /// Dropout of the attention probabilities.
    pub dropout: f64,
    /// Whether the branch is LN(x) + attention(LN(x)), as in the T2T of arXiv 2112.13492's code.
    pub adds_normal: bool,
    /// How the branch is added.
    pub residual: ResidualConfig,
    /// ε of the layer normalisation.
    pub epsilon: f64,
    /// How queries, keys and values begin.
    pub qkv_init: DenseInit,
    /// How the output begins.
    pub output_init: DenseInit,
    /// Where the biases by relative position come from; none is 0.
    pub position_init: Option<Distribution>,
}

/// x + attention(LN(x)) on `[image, token, dim]`.
#[derive(Module, Debug)]
pub struct AttentionResidual {
    /// Before the attention.
    pub norm: LayerNorm,
    /// Queries, keys and values side by side: `[dim, (q, k, v) · heads · key_dim]`.
    pub qkv: Dense,
    /// `[1]` or `[heads]`: the learned temperature, only with Locality Self-Attention.
    pub temperature: Option<Param<Tensor<1>>>,
    /// `[heads, (2 · height − 1) · (2 · width − 1)]`: the bias by relative position.
    pub relative_position: Option<Param<Tensor<2>>>,
    /// `[heads · key_dim, dim]`.
    pub output: Dense,
    /// γ, `[dim]`.
    pub layer_scale: Option<Param<Tensor<1>>>,
    #[module(skip)]
    config: AttentionConfig,
    #[module(skip)]
    path: String,
}

impl AttentionResidual {
    /// An attention with fresh weights.
    pub fn new(config: &AttentionConfig, init: &Initialiser) -> Self {
        let (dim, heads) = (config.dim, config.heads);
        let inner = heads * config.key_dim;
        let root = (config.key_dim as f32).sqrt();
        let temperature = |value, count| init.constant(value, [count]);
        let (qkv, output) = (config.qkv_init, config.output_init);
        let relative_position = |position: Position| {
            let shape = [heads, position.offsets()];
            match config.position_init {
                Some(distribution) => init.draw("relative_position", distribution, shape),
                None => init.constant(0.0, shape),
            }
        };
        Self {
            norm: LayerNorm::new(dim, config.epsilon, &init.at("norm")),
            qkv: Dense::new(dim, 3 * inner, config.qkv_bias, qkv, &init.at("qkv")),
            temperature: match config.temperature {
                Temperature::Constant => None,
                Temperature::Layer => Some(temperature(root, 1)),
                Temperature::Head => Some(temperature(1.0 / root, heads)),
            },
            relative_position: config.position.map(relative_position),
            output: Dense::new(inner, dim, true, output, &init.at("output")),
            layer_scale: config.residual.layer_scale(dim, init),
            config: config.clone(),
            path: init.path().to_owned(),
        }
    }

    /// What each head's scores are multiplied by, in units of the plain 1 / √key_dim; none where no temperature
    /// is learned.
    fn sharpness(&self) -> Option<Vec<f64>> {
        let learned = Array::of(self.temperature.as_ref()?.val()).values;
        let root = (self.config.key_dim as f64).sqrt();
        let of_head = |head: usize| match self.config.temperature {
            Temperature::Head => f64::from(learned[head]) * root,
            _ => root / f64::from(learned[0]),
        };
        Some((0..self.config.heads).map(of_head).collect())
    }

    /// How many windows an image has.
    fn windows(&self) -> usize {
        self.config.windows.map_or(1, |windows| windows.count())
    }

    /// The image's number of each token, window by window.
    fn order(windows: Windows) -> Vec<usize> {
        let members = (0..windows.count()).map(|window| windows.members(window));
        members.flatten().collect()
    }

    /// Tokens row by row → window by window, or back.
    fn ordered(&self, x: Tensor<3>, back: bool) -> Tensor<3> {
        let Some(windows) = self.config.windows else {
            return x;
        };
        let order = Self::order(windows);
        let mut places = vec![0; order.len()];
        for (place, token) in order.into_iter().enumerate() {
            match back {
                true => places[token] = place as i64,
                false => places[place] = token as i64,
            }
        }
        let places = TensorData::new(places, [windows.height * windows.width]);
        let places = Tensor::<1, Int>::from_data(places, &x.device());
        x.select(1, places)
    }

    /// What is added to the scores of tokens that lie in different regions of a window:
    /// `[1, (window, head), token, token]`, 0 between all others.
    fn apart(&self, windows: Windows, device: &Device) -> Tensor<4> {
        let AttentionConfig { tokens, heads, .. } = self.config;
        let mut added = vec![0.0f32; windows.count() * heads * tokens * tokens];
        let of_windows = added.chunks_exact_mut(heads * tokens * tokens);
        for (window, of_heads) in of_windows.enumerate() {
            let Some(regions) = windows.regions(window) else {
                continue;
            };
            for (place, added) in of_heads.iter_mut().enumerate() {
                let (query, key) = (place / tokens % tokens, place % tokens);
                if regions[query] != regions[key] {
                    *added = APART;
                }
            }
        }
        let shape = [1, windows.count() * heads, tokens, tokens];
        Tensor::from_data(TensorData::new(added, shape), device)
    }

    /// Probabilities `[image, (window, head), token, token]` → `[image, (head, token), token]` of all of an
    /// image's tokens: 0 from one window to another.
    fn whole(&self, probabilities: &Tensor<4>) -> Tensor<3> {
        let AttentionConfig { tokens, heads, .. } = self.config;
        let images = probabilities.dims()[0];
        let Some(windows) = self.config.windows else {
            let shape = [images, heads * tokens, tokens];
            return probabilities.clone().reshape(shape);
        };
        let (order, all) = (Self::order(windows), windows.height * windows.width);
        let mut whole = vec![0.0f32; images * heads * all * all];
        let values = Array::of(probabilities.clone()).values;
        for (row, values) in values.chunks_exact(tokens).enumerate() {
            let (query, head) = (row % tokens, row / tokens % heads);
            let window = row / tokens / heads % windows.count();
            let image = row / tokens / heads / windows.count();
            let members = &order[window * tokens..][..tokens];
            let to = &mut whole[((image * heads + head) * all + members[query]) * all..][..all];
            for (key, value) in members.iter().zip(values) {
                to[*key] = *value;
            }
        }
        let data = TensorData::new(whole, [images, heads * all, all]);
        Tensor::from_data(data, &probabilities.device())
    }

    /// Scores `[image · window, head, token, token]` of queries and keys, each `[image · window, head, token,
    /// key]`.
    fn scores(&self, query: Tensor<4>, key: Tensor<4>) -> Tensor<4> {
        let product = |query: Tensor<4>| query.matmul(key.swap_dims(2, 3));
        let heads = self.config.heads;
        let scores = match (self.config.temperature, &self.temperature) {
            (Temperature::Layer, Some(tau)) => product(query / tau.val().unsqueeze()),
            (_, Some(tau)) => product(query) * tau.val().reshape([1, heads, 1, 1]),
            (_, None) => product(query / (self.config.key_dim as f32).sqrt()),
        };
        match (&self.relative_position, self.config.position) {
            (Some(table), Some(position)) => scores + self.positions(table.val(), position),
            _ => scores,
        }
    }

    /// The table of biases → `[1, head, token, token]`.
    fn positions(&self, table: Tensor<2>, position: Position) -> Tensor<4> {
        let Position {
            height,
            width,
            before,
        } = position;
        let tokens = self.config.tokens;
        // A last column of zeros for the class token.
        let device = table.device();
        let none = Tensor::zeros([self.config.heads, 1], &device);
        let table = Tensor::cat(vec![table, none], 1);
        let place = |query: usize, key: usize| -> i64 {
            let (Some(query), Some(key)) = (query.checked_sub(before), key.checked_sub(before))
            else {
                return position.offsets() as i64;
            };
            let rows = query / width + height - 1 - key / width;
            let columns = query % width + width - 1 - key % width;
            (rows * (2 * width - 1) + columns) as i64
        };
        let places: Vec<i64> = (0..tokens * tokens)
            .map(|pair| place(pair / tokens, pair % tokens))
            .collect();
        let places = TensorData::new(places, [tokens * tokens]);
        table
            .select(1, Tensor::<1, Int>::from_data(places, &device))
            .reshape([1, self.config.heads, tokens, tokens])
    }
}

impl Layer for AttentionResidual {
    fn path(&self) -> &str {
        &self.path
    }

    fn attention(&self) -> Option<Attending> {
        Some(Attending {
            heads: self.config.heads,
            sharpness: self.sharpness(),
            of_class: false,
            windows: self.config.windows,
        })
    }

    fn operation(&self, precision: Precision) -> Box<dyn ImageOp> {
        let AttentionConfig {
            tokens,
            heads,
            key_dim,
            ..
        } = self.config;
        Box::new(kernel::AttentionResidual {
            attention: Attention {
                tokens,
                heads,
                key_dim,
                mask_diagonal: self.config.mask_diagonal,
                position: self.config.position,
                dropout: Rate::new(self.config.dropout),
                precision,
            },
            windows: self.config.windows,
            dim: self.config.dim,
            qkv_bias: self.config.qkv_bias,
            temperature: match self.config.temperature {
                Temperature::Constant => {
                    kernel::Temperature::Constant(1.0 / (key_dim as f32).sqrt())
                }
                Temperature::Layer => kernel::Temperature::Learned {
                    each_head: false,
                    divides: true,
                },
                Temperature::Head => kernel::Temperature::Learned {
                    each_head: true,
                    divides: false,
                },
            },
            epsilon: self.config.epsilon as f32,
            adds_normal: self.config.adds_normal,
            residual: self.config.residual.operation(),
        })
    }

    fn parameters(&self) -> Vec<NamedValue> {
        let mut all = vec![
            value("norm.gamma", &self.norm.gamma),
            value("norm.beta", &self.norm.beta),
            value("qkv.kernel", &self.qkv.kernel),
        ];
        all.extend(self.qkv.bias.as_ref().map(|p| value("qkv.bias", p)));
        all.extend(self.temperature.as_ref().map(|p| value("temperature", p)));
        all.extend(
            self.relative_position
                .as_ref()
                .map(|p| value("relative_position", p)),
        );
        all.push(value("output.kernel", &self.output.kernel));
        all.extend(self.output.bias.as_ref().map(|p| value("output.bias", p)));
        all.extend(self.layer_scale.as_ref().map(|p| value("layer_scale", p)));
        all
    }

    fn composed(&self, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let images = x.dims()[0];
        let AttentionConfig {
            tokens,
            heads,
            key_dim,
            ..
        } = self.config;
        let (windows, inner) = (self.windows(), heads * key_dim);
        // [image, token, (q, k, v) · head · key] → three of [image · window, head, token, key]
        let normal = self.norm.forward(x.clone());
        let qkv = self.ordered(self.qkv.forward(normal.clone()), false);
        let [query, key, value] = [0, 1, 2].map(|which| {
            qkv.clone()
                .narrow(2, which * inner, inner)
                .reshape([images * windows, tokens, heads, key_dim])
                .swap_dims(1, 2)
        });
        let all = [images, windows * heads, tokens, tokens];
        let mut scores = self.scores(query, key).reshape(all);
        if let Some(windows) = self.config.windows.filter(|windows| windows.shift > 0) {
            let apart = self.apart(windows, &scores.device());
            scores = scores + apart;
        }
        if self.config.mask_diagonal {
            // `diag_mask` is false on the diagonal.
            let diagonal = Tensor::<2, Bool>::diag_mask([tokens, tokens], 0, &scores.device())
                .bool_not()
                .unsqueeze::<4>()
                .expand(scores.shape());
            scores = scores.mask_fill(diagonal, MASKED);
        }
        let probabilities = activation::softmax(scores, 3);
        if context.is_traced() {
            let whole = self.whole(&probabilities);
            context.keep(|| format!("{}.probabilities", self.path), &whole);
        }
        let site = format!("{}.dropout", self.path);
        let probabilities = context.dropout(probabilities, self.config.dropout, &site);
        let probabilities = probabilities.reshape([images * windows, heads, tokens, tokens]);
        let gathered = probabilities.matmul(value).swap_dims(1, 2);
        let gathered = self.ordered(gathered.reshape([images, windows * tokens, inner]), true);
        let branch = match self.config.adds_normal {
            true => self.output.forward(gathered) + normal,
            false => self.output.forward(gathered),
        };
        context.keep(|| format!("{}.branch", self.path), &branch);
        let (gamma, rate) = (&self.layer_scale, self.config.residual.stochastic_depth);
        residual::add(x, branch, gamma, rate, &self.path, context)
    }
}
