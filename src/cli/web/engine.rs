//! The one thread that asks the models, for all who wait: what has come in meanwhile goes through a model together.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use smallvit::models::Model;
use smallvit::models::file::ModelInfo;
use smallvit::models::look::Look;
use smallvit::train::workers::Workers;
use smallvit::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::cli::explain::{Seen, looked};

/// A model that is served.
pub struct Served {
    /// What it is.
    pub info: ModelInfo,
    /// Its weights.
    pub model: Model,
}

/// The most images that go through a model together.
const TOGETHER: usize = 64;

/// What is asked of a model.
pub enum Question {
    /// The logits of an image as the model takes it, and how long they took, in seconds.
    Logits(Vec<f32>, oneshot::Sender<(Vec<f32>, f64)>),
    /// Where it looks in an image of the size that it was trained on. The place comes back with the answer, of which
    /// more is to be made.
    Look(Vec<u8>, oneshot::Sender<(Look, Seen, OwnedSemaphorePermit)>),
}

/// A question, to which model, and the place in the queue that it holds until it is answered: whoever asked may
/// have gone, and the work is there all the same.
pub struct Job {
    /// By number.
    pub model: usize,
    /// The question.
    pub question: Question,
    /// The place.
    pub place: OwnedSemaphorePermit,
}

/// Where questions go.
#[derive(Clone)]
pub struct Engine(mpsc::Sender<Job>);

impl Engine {
    /// Starts the thread. `answered` is told how many images went through a model together.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub fn start(
        models: Vec<Served>,
        workers: Workers,
        answered: impl Fn(usize) + Send + 'static,
    ) -> Result<Self> {
        let (send, receive) = mpsc::channel();
        let thread = thread::Builder::new().name("engine".into());
        thread
            .spawn(move || work(&models, &workers, &receive, answered))
            .map_err(Error::io("start", "the engine's thread"))?;
        Ok(Self(send))
    }

    /// Asks. Should the thread have ended, the answer's sender is dropped with the question.
    pub fn ask(&self, job: Job) {
        let _ = self.0.send(job);
    }
}

fn work(
    models: &[Served],
    workers: &Workers,
    jobs: &mpsc::Receiver<Job>,
    answered: impl Fn(usize),
) {
    let shape = |info: &ModelInfo| {
        let size = info.config.image_size();
        [size, size, info.input[2]]
    };
    let inference: Vec<_> = models
        .iter()
        .map(|served| workers.inference(&served.model, shape(&served.info)))
        .collect();
    while let Ok(first) = jobs.recv() {
        let more = std::iter::from_fn(|| jobs.try_recv().ok()).take(TOGETHER - 1);
        let mut all: Vec<Job> = std::iter::once(first).chain(more).collect();
        for (number, served) in models.iter().enumerate() {
            let of_model = |job: &mut Job| job.model == number;
            let (mut pixels, mut asked) = (vec![], vec![]);
            for job in all.extract_if(.., of_model) {
                match job.question {
                    // Whoever has gone does not wait for it.
                    Question::Logits(_, reply) if reply.is_closed() => {}
                    Question::Logits(input, reply) => {
                        pixels.extend(input);
                        asked.push((reply, job.place));
                    }
                    Question::Look(_, reply) if reply.is_closed() => {}
                    Question::Look(pixels, reply) => {
                        let device = workers.device();
                        let (look, seen) = looked(&served.info, &served.model, &pixels, device);
                        let _ = reply.send((look, seen, job.place));
                    }
                }
            }
            if asked.is_empty() {
                continue;
            }
            let began = Instant::now();
            let logits = inference[number].logits(&pixels);
            let seconds = began.elapsed().as_secs_f64();
            answered(asked.len());
            let classes = served.info.classes.len();
            for ((reply, place), logits) in asked.into_iter().zip(logits.chunks_exact(classes)) {
                drop(place);
                let _ = reply.send((logits.to_vec(), seconds));
            }
        }
    }
}
