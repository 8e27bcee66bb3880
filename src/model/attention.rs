//! Multi-head attention, plain or Locality Self-Attention.
//!
//! Attention(q, k, v) = softmax(q · kᵀ / τ) · v in each head (Vaswani et al., arXiv 1706.03762,
//! section 3.2), with τ = √key_dim.
//!
//! Locality Self-Attention (arXiv 2112.13492, section 3.2) makes two changes: τ is learned,
//! starting from √key_dim, and the diagonal of the scores is masked out, so that no token
//! attends to itself. As in the seed there is one τ a layer.

use burn::module::{Module, Param};
use burn::tensor::{Bool, Tensor, activation};

use super::config::{AttentionKind, ModelConfig};
use super::layers::{Dense, Initialiser, Pass, glorot};

/// What a masked score becomes: so low that its probability is exactly 0, yet finite.
const MASKED: f32 = -1e9;

/// Queries, keys and values from one sequence of tokens.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[dim, heads · key_dim]`.
    pub query: Dense,
    /// `[dim, heads · key_dim]`.
    pub key: Dense,
    /// `[dim, heads · key_dim]`.
    pub value: Dense,
    /// `[heads · key_dim, dim]`.
    pub output: Dense,
    /// `[1]`: the learned temperature, only with Locality Self-Attention.
    pub tau: Option<Param<Tensor<1>>>,
    #[module(skip)]
    pub(super) heads: usize,
    #[module(skip)]
    pub(super) key_dim: usize,
    #[module(skip)]
    pub(super) dropout: f64,
}

impl Attention {
    /// Attention with fresh weights.
    ///
    /// Keras's rule for the kernels' Glorot bound: the fans come from the three-dimensional
    /// kernel, whose last two axes count as (in, out) and whose first is a receptive field. So
    /// query, key and value, (dim, heads, key_dim), have the fans dim · heads and dim · key_dim,
    /// and the output, (heads, key_dim, dim), has heads · key_dim and heads · dim.
    pub fn new(config: &ModelConfig, init: &mut Initialiser) -> Self {
        let &ModelConfig {
            dim,
            heads,
            key_dim,
            ..
        } = config;
        let inner = heads * key_dim;
        let mut project = || Dense::new(dim, inner, glorot(dim * heads, dim * key_dim), init);
        let (query, key, value) = (project(), project(), project());
        let output = Dense::new(inner, dim, glorot(heads * key_dim, heads * dim), init);
        let tau = (config.attention == AttentionKind::Locality)
            .then(|| init.constant((key_dim as f32).sqrt(), [1]));
        Self {
            query,
            key,
            value,
            output,
            tau,
            heads,
            key_dim,
            dropout: config.dropout,
        }
    }

    /// `[image, token, dim]` → the same shape.
    pub fn forward(&self, x: Tensor<3>, pass: &mut Pass) -> Tensor<3> {
        let [images, tokens, _] = x.dims();
        // [image, token, head · key] → [image, head, token, key]
        let split = |x: Tensor<3>| {
            x.reshape([images, tokens, self.heads, self.key_dim])
                .swap_dims(1, 2)
        };
        let query = self.query.forward(x.clone());
        let query = match &self.tau {
            Some(tau) => query / tau.val().unsqueeze(),
            None => query / (self.key_dim as f32).sqrt(),
        };
        let query = split(query);
        let key = split(self.key.forward(x.clone()));
        let value = split(self.value.forward(x));

        let mut scores = query.matmul(key.swap_dims(2, 3)); // [image, head, token, token]
        if self.tau.is_some() {
            // `diag_mask` is false on the diagonal.
            let diagonal = Tensor::<2, Bool>::diag_mask([tokens, tokens], 0, &scores.device())
                .bool_not()
                .unsqueeze::<4>()
                .expand(scores.shape());
            scores = scores.mask_fill(diagonal, MASKED);
        }
        let probabilities = pass.dropout(activation::softmax(scores, 3), self.dropout);
        let attended = probabilities.matmul(value).swap_dims(1, 2).reshape([
            images,
            tokens,
            self.heads * self.key_dim,
        ]);
        self.output.forward(attended)
    }
}
