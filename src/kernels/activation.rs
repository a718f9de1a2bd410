//! Non-linearities and their derivatives (equations, section 1).

use super::{kernel, map, zip};
use crate::real::{Real, Simd};
use serde::{Deserialize, Serialize};

/// The non-linearity of a simple recurrent unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// σ(z) = 1 / (1 + e⁻ᶻ)
    Sigmoid,
    /// tanh z
    Tanh,
    /// max(0, z)
    Relu,
}

impl Activation {
    /// h = f(z)
    pub fn forward<R: Real>(self, z: &[R], h: &mut [R]) {
        forward(self, z, h);
    }

    /// z ← f(z)
    pub fn apply<R: Real>(self, z: &mut [R]) {
        apply(self, z);
    }

    /// g ← g ∘ f'(z), from the output h = f(z): 1 − h² for tanh, h(1 − h) for σ, 1{h > 0} for relu.
    pub fn backward<R: Real>(self, g: &mut [R], h: &[R]) {
        backward(self, g, h);
    }
}

kernel! {
    fn forward<'a>(f: Activation, z: &'a [R], h: &'a mut [R]) {
        |s| match f {
            Activation::Sigmoid => zip(s, h, z, #[inline(always)] |_, z| s.sigmoid(z)),
            Activation::Tanh => zip(s, h, z, #[inline(always)] |_, z| s.tanh(z)),
            Activation::Relu => zip(s, h, z, #[inline(always)] |_, z| relu(s, z, z)),
        }
    }
}

kernel! {
    fn apply<'a>(f: Activation, z: &'a mut [R]) {
        |s| match f {
            Activation::Sigmoid => map(s, z, #[inline(always)] |z| s.sigmoid(z)),
            Activation::Tanh => map(s, z, #[inline(always)] |z| s.tanh(z)),
            Activation::Relu => map(s, z, #[inline(always)] |z| relu(s, z, z)),
        }
    }
}

kernel! {
    fn backward<'a>(f: Activation, g: &'a mut [R], h: &'a [R]) {
        |s| {
            let one = s.splat(R::one());
            match f {
                Activation::Sigmoid => zip(s, g, h, #[inline(always)] |g, h| s.mul(s.mul(g, h), s.sub(one, h))),
                Activation::Tanh => zip(s, g, h, #[inline(always)] |g, h| s.mul(g, s.sub(one, s.mul(h, h)))),
                Activation::Relu => zip(s, g, h, #[inline(always)] |g, h| relu(s, h, g)),
            }
        }
    }
}

/// x where z > 0, 0 where z ≤ 0, NaN where z is NaN.
#[inline(always)]
fn relu<S: Simd>(s: S, z: S::V, x: S::V) -> S::V {
    let zero = s.splat(S::R::of(0.0));
    let not_above = s.if_greater(z, zero, x, s.mul(z, zero));
    // z·0 is 0 for finite z and NaN for −∞, which belongs to 0.
    s.if_greater(zero, z, zero, not_above)
}
