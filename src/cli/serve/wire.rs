//! What goes over the wire, as JSON; the description of the interface is made of it.

use serde::Serialize;
use utoipa::ToSchema;

/// A model that is served.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct About {
    /// What requests name it by.
    pub id: String,
    /// Its family and ideas, as `sl-vit`.
    pub name: String,
    /// Trainable parameters.
    pub parameters: u64,
    /// Pixels a side of the images that it takes; pictures are brought to it.
    pub image_size: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// The classes that it knows.
    pub classes: Vec<String>,
    /// The data that it was trained on.
    pub data: Option<String>,
    /// Percent of the test images that it had right.
    pub test_top1: Option<f64>,
    /// Shifted Patch Tokenization.
    pub spt: bool,
    /// Locality Self-Attention.
    pub lsa: bool,
    /// Attentions.
    pub layers: usize,
    /// Heads of an attention, at most.
    pub heads: usize,
    /// Rows and columns of its first tokens.
    pub grid: [usize; 2],
}

#[derive(Serialize, ToSchema)]
pub struct Models {
    pub models: Vec<About>,
}

#[derive(Serialize, ToSchema)]
pub struct Examples {
    pub examples: Vec<AboutExample>,
}

/// An example picture.
#[derive(Serialize, ToSchema)]
pub struct AboutExample {
    pub id: usize,
    /// What it is.
    pub class: String,
    /// Where it is.
    pub url: String,
}

#[derive(Serialize, ToSchema)]
pub struct Prediction {
    /// Which model said so.
    pub model: String,
    /// The likeliest classes, the first first.
    pub likeliest: Vec<Likely>,
    /// What the model took, for this picture and those that went through it together with it.
    pub milliseconds: f64,
}

#[derive(Serialize, ToSchema)]
pub struct Likely {
    pub class: String,
    /// 0 to 1.
    pub probability: f64,
}

/// What a model looks at in a picture.
#[derive(Serialize, ToSchema)]
pub struct Explanation {
    pub model: String,
    /// The picture as the model takes it: a PNG as a data URL.
    pub image: String,
    pub image_size: usize,
    pub layers: Vec<Layer>,
    /// Attention through all layers, where they have one grid.
    pub rollout: Option<Rollout>,
    /// The picture and its four shifts, with Shifted Patch Tokenization.
    pub views: Option<Vec<AboutView>>,
    pub patch: Patch,
}

#[derive(Serialize, ToSchema)]
pub struct Layer {
    pub name: String,
    /// Rows and columns of tokens.
    pub grid: [usize; 2],
    /// By how much each head's attention is sharper than without Locality Self-Attention (1 is as without).
    pub temperature: Option<Vec<f64>>,
    /// Rows (and columns) before which another window begins, where tokens attend to each other in windows.
    pub borders: Vec<usize>,
    /// Whether only the class token attends to others.
    pub of_class: bool,
    pub heads: Vec<Head>,
    /// Base64 of bytes, head × query × key: each 255 × the probability, as a part of its row's largest. Without a
    /// class token; empty where only that attends.
    pub maps: String,
}

#[derive(Serialize, ToSchema)]
pub struct Head {
    /// The mean attention that each token is paid; where only the class token attends, by that.
    pub received: Vec<f32>,
}

#[derive(Serialize, ToSchema)]
pub struct Rollout {
    pub grid: [usize; 2],
    pub values: Vec<f32>,
}

#[derive(Serialize, ToSchema)]
pub struct AboutView {
    pub name: String,
    /// A PNG as a data URL.
    pub image: String,
}

/// How the picture is cut into its first tokens.
#[derive(Serialize, ToSchema)]
pub struct Patch {
    /// Pixels a side.
    pub size: usize,
    pub grid: [usize; 2],
}

/// Why a request is not met.
#[derive(Serialize, ToSchema)]
pub struct Failure {
    pub error: FailureText,
}

#[derive(Serialize, ToSchema)]
pub struct FailureText {
    /// For programs: too_large, not_a_picture, unreadable, busy, …
    pub code: String,
    /// For people.
    pub message: String,
}
