//! # smallvit
//!
//! Trains Vision Transformers from scratch on small image sets, with Shifted Patch Tokenization
//! and Locality Self-Attention (Lee, Lee, Song: *Vision Transformer for Small-Size Datasets*,
//! arXiv 2112.13492).
//!
//! Data flows one way: [`data`] → [`augment`] → [`models`], made of [`nn`] and [`params`] →
//! [`train`] → [`report`]; the program's command line is the only part that sees them all.
//!
//! ## As a library
//!
//! Without the feature `cli` there are no pictures and no command line, without `download` nothing
//! that talks to a network. Images come from [`data::load()`] or, as here, from memory:
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use smallvit::data::{Dataset, Images, Split};
//! use smallvit::models::file;
//! use smallvit::train::{device, folder::RunFolder, prepare::Prepared, recipe::Recipe};
//! use smallvit::train::{run, run::Run, workers::Workers};
//!
//! # fn main() -> smallvit::Result<()> {
//! // Grey pictures of 8 × 8 pixels, dark and light ones.
//! let picture = |number: usize| (60 + 120 * (number % 2) + number % 7) as u8;
//! let split = |count: usize| Split {
//!     images: Images {
//!         height: 8,
//!         width: 8,
//!         channels: 1,
//!         pixels: (0..count).flat_map(|number| [picture(number); 64]).collect(),
//!     },
//!     labels: (0..count).map(|number| (number % 2) as u32).collect(),
//!     ..Split::default()
//! };
//! let dataset = Dataset {
//!     name: "dark and light".into(),
//!     classes: vec!["dark".into(), "light".into()],
//!     train: split(64),
//!     validation: Some(split(16)),
//!     test: Some(split(16)),
//!     ..Dataset::default()
//! };
//!
//! // A recipe is data: a built-in one or a file's, with changes on top.
//! let changes = [
//!     "model.image_size=8", "model.patch_size=4", "model.dim=8", "model.depth=1",
//!     "train.epochs=2", "train.warmup_epochs=1", "train.batch=16",
//! ];
//! let recipe = Recipe::load("quickstart", &changes.map(String::from))?;
//!
//! // Train. Everything of the run is in its folder; dropped, it would go on from there.
//! # let home = tempfile::tempdir().expect("a temporary folder");
//! # let home = home.path();
//! let folder = RunFolder(home.join("run"));
//! let run = Run {
//!     recipe: &recipe,
//!     data: &Prepared::new(dataset, &recipe)?,
//!     folder: &folder,
//!     threads: 2,
//!     device: device::cpu(),
//!     stop: &AtomicBool::new(false),
//!     resume_command: "run it again".into(),
//!     from: Default::default(),
//! };
//! let result = run::train(&run, &mut [])?;
//! assert_eq!(result.epochs, 2);
//!
//! // Load the best epoch's model, and ask it.
//! let (info, model) = file::open(&folder.best(), &device::cpu())?;
//! let mut input = vec![0.0; info.preprocess().output_len()];
//! info.preprocess().apply(&[200; 64], &mut input);
//! let logits = Workers::new(1, 32, device::cpu())?.infer(&model, &input, [8, 8, 1]);
//! let class = (0..2).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
//! println!("{}: {logits:?}", info.classes[class]);
//! # assert_eq!(logits.len(), 2);
//! # assert!(logits.iter().all(|logit| logit.is_finite()));
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod atomic;
pub mod augment;
pub mod data;
pub mod error;
pub mod input;
pub mod lock;
pub mod memory;
pub mod migrate;
pub mod models;
pub mod nn;
pub mod params;
pub mod random;
pub mod report;
pub mod settings;
pub mod strict;
pub mod train;
pub mod words;

pub use error::{Error, Result};
