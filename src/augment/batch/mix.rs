//! Mixup or CutMix: which of the two a batch gets, if any.

use serde::{Deserialize, Serialize};

use super::{Batch, cutmix, mixup};
use crate::augment::recipe::in_range;
use crate::augment::{Augmentation, Boxed, Operation};
use crate::error::{Error, Result};
use crate::random::Stream;

/// The parameters of Mixup and CutMix; the defaults are DeiT's (arXiv 2012.12877).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mixing {
    /// Of a batch to be mixed at all.
    pub probability: f64,
    /// α of Mixup's λ ~ Beta(α, α); 0 is off.
    pub mixup_alpha: f64,
    /// α of CutMix's λ ~ Beta(α, α); 0 is off.
    pub cutmix_alpha: f64,
    /// The part of the mixed batches that CutMix gets, where both are on.
    pub cutmix_share: f64,
}

impl Default for Mixing {
    fn default() -> Self {
        Self {
            probability: 1.0,
            mixup_alpha: 0.8,
            cutmix_alpha: 1.0,
            cutmix_share: 0.5,
        }
    }
}

/// The mixing, where the recipe asks for it.
pub(super) fn of(recipe: &Augmentation) -> Option<Boxed<Batch>> {
    let mixing = recipe.mix.clone()?;
    Some(Box::new(mixing))
}

impl Operation<Batch> for Mixing {
    fn name(&self) -> &'static str {
        "mix"
    }

    /// Everything that both need is drawn whether it is used or not, so that neither's draws change
    /// when the other is switched.
    fn apply(&self, batch: &mut Batch, shape: [usize; 3], stream: &mut Stream) {
        let mixes = f64::from(stream.unit()) < self.probability;
        let cuts = f64::from(stream.unit()) < self.cutmix_share;
        let cuts = self.cutmix_alpha > 0.0 && (cuts || self.mixup_alpha == 0.0);
        let mut partners: Vec<usize> = (0..batch.targets.len()).collect();
        stream.shuffle(&mut partners);
        if !mixes {
            return;
        }
        if cuts {
            let weight = stream.beta(self.cutmix_alpha, self.cutmix_alpha);
            let rectangle = cutmix::rectangle(shape, weight, stream);
            cutmix::cutmix(batch, shape, rectangle, &partners);
        } else {
            let weight = stream.beta(self.mixup_alpha, self.mixup_alpha);
            mixup::mixup(batch, weight as f32, &partners);
        }
    }

    fn check(&self) -> Result<()> {
        for (field, value) in [
            ("mix.probability", self.probability),
            ("mix.cutmix_share", self.cutmix_share),
        ] {
            let allowed = (0.0..=1.0).contains(&value);
            in_range(field, value, allowed, "choose 0 to 1")?;
        }
        for (field, value) in [
            ("mix.mixup_alpha", self.mixup_alpha),
            ("mix.cutmix_alpha", self.cutmix_alpha),
        ] {
            let allowed = (0.0..=1000.0).contains(&value);
            let remedy = "choose 0 (off), or more than 0 and at most 1000: 1 draws the weights \
                          uniformly, less draws them nearer to 0 and 1";
            in_range(field, value, allowed, remedy)?;
        }
        if self.mixup_alpha == 0.0 && self.cutmix_alpha == 0.0 {
            return Err(Error::recipe(
                "augment.mix",
                "both mixup_alpha and cutmix_alpha are 0, so nothing would be mixed",
                "give one of them more than 0 (Mixup 0.8, CutMix 1.0), or leave out the table",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Targets;
    use crate::random::Purpose;

    const SHAPE: [usize; 3] = [8, 8, 1];

    /// Images of one number each, the sample's own, so that mixtures can be told apart.
    fn batch(images: usize) -> Batch {
        Batch {
            images: (0..images * 64).map(|i| (i / 64) as f32).collect(),
            targets: (0..images as u32).collect::<Vec<_>>().into(),
        }
    }

    fn mixed(mixing: &Mixing, number: u64) -> Batch {
        let mut batch = batch(16);
        let mut stream = Stream::named(1, Purpose::Mix, &[2, number], mixing.name());
        mixing.apply(&mut batch, SHAPE, &mut stream);
        batch
    }

    /// Whether the batch was cut: then every number in it is a sample's own.
    fn cut(batch: &Batch) -> bool {
        batch.images.iter().all(|value| value.fract() == 0.0)
    }

    #[test]
    fn an_images_pixels_weigh_as_its_targets_do() {
        for number in 0..100 {
            let batch = mixed(&Mixing::default(), number);
            let Targets::Mixed { a, b, weight_a } = &batch.targets else {
                panic!("not mixed");
            };
            assert_eq!((a.len(), b.len(), weight_a.len()), (16, 16, 16));
            let mut partners = b.clone();
            partners.sort_unstable();
            assert_eq!(partners, *a);
            for (image, pixels) in batch.images.chunks_exact(64).enumerate() {
                let mean = pixels.iter().sum::<f32>() / 64.0;
                let w = weight_a[image];
                let expected = w * a[image] as f32 + (1.0 - w) * b[image] as f32;
                assert!((mean - expected).abs() < 1e-4, "{mean} {expected}");
            }
        }
    }

    #[test]
    fn shares_are_those_asked_for() {
        let count = |mixing: &Mixing| {
            let batches: Vec<Batch> = (0..1000).map(|number| mixed(mixing, number)).collect();
            let hard = |batch: &&Batch| matches!(batch.targets, Targets::Hard(_));
            let hard = batches.iter().filter(hard).count();
            (
                hard,
                batches.iter().filter(|batch| cut(batch)).count() - hard,
            )
        };
        let half = Mixing {
            probability: 0.5,
            cutmix_share: 0.2,
            ..Mixing::default()
        };
        let (hard, cut) = count(&half);
        // Five deviations: 5 · √250, 5 · √(1000 · 0.1 · 0.9).
        assert!(hard.abs_diff(500) < 80, "{hard}");
        assert!(cut.abs_diff(100) < 48, "{cut}");
        let only_cutmix = Mixing {
            mixup_alpha: 0.0,
            cutmix_share: 0.0,
            ..Mixing::default()
        };
        assert_eq!(count(&only_cutmix), (0, 1000));
        let only_mixup = Mixing {
            cutmix_alpha: 0.0,
            cutmix_share: 1.0,
            ..Mixing::default()
        };
        assert_eq!(count(&only_mixup), (0, 0));
        let never = Mixing {
            probability: 0.0,
            ..Mixing::default()
        };
        assert_eq!(count(&never), (1000, 0));
    }

    #[test]
    fn one_kinds_batches_do_not_change_when_the_other_is_switched_off() {
        let both = Mixing::default();
        let no_cutmix = Mixing {
            cutmix_alpha: 0.0,
            ..Mixing::default()
        };
        let no_mixup = Mixing {
            mixup_alpha: 0.0,
            ..Mixing::default()
        };
        let mut kinds = [0, 0];
        for number in 0..50 {
            let batch = mixed(&both, number);
            let alone = if cut(&batch) { &no_mixup } else { &no_cutmix };
            kinds[usize::from(cut(&batch))] += 1;
            assert_eq!(mixed(alone, number), batch);
        }
        assert!(kinds.iter().all(|&n| n > 5), "{kinds:?}");
    }

    #[test]
    fn a_batch_of_one_is_mixed_with_itself() {
        let mut one = batch(1);
        let mut stream = Stream::named(1, Purpose::Mix, &[0, 0], "mix");
        Mixing::default().apply(&mut one, SHAPE, &mut stream);
        assert_eq!(one.images, batch(1).images);
    }
}
