//! What a run has come to so far: all that a checkpoint holds.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::average::Average;
use super::clock::StepTimes;
use super::gradients::{Checked, parameters};
use super::groups;
use super::history::Epoch;
use super::metrics::Sums;
use super::optimizer::Optimizer;
use super::recipe::Recipe;
use crate::error::Result;
use crate::models::file::ModelInfo;
use crate::models::{Model, ModelConfig};
use crate::params;

/// Weights, the optimizer's moments, averaged weights where the recipe asks for them, and counters.
pub struct TrainState {
    /// Without autodiff. None only while a step has it in its hands, because Burn changes a module
    /// by consuming it.
    model: Option<Model>,
    /// The moments.
    pub optimizer: Optimizer,
    /// The averaged weights.
    pub average: Option<Average>,
    /// Where the run stands.
    pub counters: Counters,
}

/// Where a run stands, besides weights and moments. All random draws are functions of the recipe's
/// seed and these counters, so there is no generator's state to keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Steps taken since the beginning of the run.
    pub step: u64,
    /// Whole epochs done.
    pub epochs: u64,
    /// Steps taken in the epoch that is under way.
    pub epoch_steps: u64,
    /// What the epoch under way has summed up.
    pub sums: Sums,
    /// Sum of the gradients' norms over steps of the epoch under way, and over how many: an earlier
    /// version's steps have none.
    #[serde(default)]
    pub norms: (f64, u64),
    /// Seconds spent on the epoch under way.
    pub epoch_seconds: f64,
    /// Seconds spent on the whole run.
    pub seconds: f64,
    /// How long the steps took.
    pub step_seconds: StepTimes,
    /// The epochs done.
    pub history: Vec<Epoch>,
    /// The data set's digest.
    pub fingerprint: String,
    /// The step at which the optimizer began afresh, because the run went on from the best epoch's
    /// weights; 0 in a run that did not.
    #[serde(default)]
    pub restarted: u64,
}

impl Counters {
    /// Where the step after those taken is, for a message: epochs and steps counted from 1.
    pub fn place(&self) -> String {
        format!("epoch {}, step {}", self.epochs + 1, self.step + 1)
    }

    /// Ends the epoch under way.
    pub fn end_epoch(&mut self, row: Epoch) {
        self.history.push(row);
        self.epochs += 1;
        (self.epoch_steps, self.sums) = (0, Sums::default());
        (self.norms, self.epoch_seconds) = ((0.0, 0), 0.0);
    }
}

impl TrainState {
    /// Before the first step, with the recipe's initial weights.
    pub fn new(
        recipe: &Recipe,
        info: &ModelInfo,
        fingerprint: &str,
        device: &Device,
    ) -> Result<Self> {
        let mut model = info.init(recipe.train.seed, device);
        if let Some(init) = &recipe.train.init {
            (model, _) = init.begin(model)?;
        }
        let optimizer = optimizer(recipe, &model)?;
        let average = recipe.train.average.clone();
        Ok(Self {
            average: average.map(|average| Average::new(average, &model)),
            optimizer,
            model: Some(model),
            counters: Counters {
                fingerprint: fingerprint.into(),
                ..Counters::default()
            },
        })
    }

    /// The state of these parts.
    pub fn of(
        model: Model,
        optimizer: Optimizer,
        average: Option<Average>,
        counters: Counters,
    ) -> Self {
        Self {
            model: Some(model),
            optimizer,
            average,
            counters,
        }
    }

    /// The weights that training goes on with.
    pub fn model(&self) -> &Model {
        let model = self.model.as_ref();
        model.expect("only `update` takes the model out, and it puts it back")
    }

    /// Goes on with the same weights in a model of this configuration, which has the same parameters; for
    /// images of another size.
    pub fn adapt(&mut self, config: &ModelConfig, info: &ModelInfo, device: &Device) -> Result<()> {
        let blank = Model::blank(config, info.input[2], info.classes.len(), device);
        let weights = params::weights(self.model());
        self.model = Some(params::load(blank, &weights, "the model")?);
        Ok(())
    }

    /// The weights to judge the run by: averaged, where the recipe asks for averages.
    pub fn judged(&self) -> Model {
        match &self.average {
            Some(average) => average.model(self.model()),
            None => self.model().clone(),
        }
    }

    /// One step of the optimizer, and of the average, after which this part of the run is done. Returns
    /// the gradients' norm.
    pub fn update(&mut self, gradients: Checked, rate: f64, done: f64) -> f64 {
        // No other owner: the weights are changed where they lie.
        let model = self.model.take();
        let model = model.expect("only `update` takes the model out, and it puts it back");
        let (mut model, norm) = self.optimizer.step(model, gradients, rate);
        if let Some(average) = &mut self.average {
            model = average.update(model, self.counters.step, done);
        }
        self.model = Some(model);
        norm
    }
}

/// The recipe's optimizer for a model, before the first step.
pub fn optimizer(recipe: &Recipe, model: &Model) -> Result<Optimizer> {
    let train = &recipe.train;
    let own = parameters(model)?;
    let mut scales = if train.groups.is_empty() {
        groups::resolve(&[], train.decay_on, &own, &own)?
    } else {
        let known = groups::known(&recipe.model)?;
        groups::resolve(&train.groups, train.decay_on, &own, &known)?
    };
    groups::decay_by_depth(&mut scales, train.layer_decay);
    Ok(Optimizer::new(recipe.optimizer(), scales))
}
