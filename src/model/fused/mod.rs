//! Parts of the model as single operations, computed by `smallvit-kernels` on the CPU.
//!
//! To Burn each is a backend extension: the Flex backend runs the kernel, image by image, and the
//! autodiff backend its hand-written backward pass. Other devices take the composed operations.

pub mod block;
pub mod deferred;
pub mod tokenizer;

use std::sync::Mutex;

use burn::backend::{BackendTypes, Flex};
use burn::tensor::{Device, Shape, Tensor, TensorData};

/// The CPU backend's tensor.
type Flat = <Flex as BackendTypes>::FloatTensorPrimitive;

/// Whether a tensor lives where the kernels run.
pub fn can<const D: usize>(x: &Tensor<D>) -> bool {
    x.device().without_autodiff() == Device::flex()
}

/// A contiguous tensor's numbers.
fn slice(tensor: &Flat) -> &[f32] {
    tensor
        .as_slice()
        .expect("the model's tensors are 32-bit floats, and these were made contiguous")
}

fn tensor(values: Vec<f32>, shape: Shape) -> Flat {
    Flat::from_data(TensorData::new(values, shape))
}

/// Room that comes back to be used again: fresh pages cost more than the numbers in them.
#[derive(Debug)]
struct Buffer(Vec<f32>);

static ROOM: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

impl Buffer {
    /// Of this length, with anything in it.
    fn take(length: usize) -> Self {
        let mut room = ROOM.lock().unwrap_or_else(|e| e.into_inner());
        let found = room.iter().position(|buffer| buffer.len() == length);
        Self(found.map_or_else(|| vec![0.0; length], |i| room.swap_remove(i)))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        /// As many as a model's blocks and threads keep in use, several times over.
        const MOST: usize = 256;
        let mut room = ROOM.lock().unwrap_or_else(|e| e.into_inner());
        if room.len() == MOST {
            room.remove(0);
        }
        room.push(std::mem::take(&mut self.0));
    }
}
