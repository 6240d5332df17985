//! A transformer encoder (Vaswani et al. 2017) with pre-normalisation, which trains more easily (Xiong et al. 2020).

use tch::{TchError, Tensor};

use crate::network::{
    Folding, NetworkError,
    layers::{Affine, Bias, Chain, ChannelScales, Layer, Linear, NORM_EPSILON, side, tensor},
    parameters::Parameters,
};

/// Number of attention heads.
const HEADS: usize = 8;
/// Expansion factor of the feed-forward layer.
const EXPANSION: usize = 4;

/// Layers and a final normalisation, over `[sequences, tokens, width]`.
///
/// `{key}.layers.N.{norm1, query_key_value, out, norm2, expand, contract}` and `{key}.norm`, each `.weight` and `.bias`.
#[derive(Debug)]
pub(super) struct Encoder {
    layers: Chain<EncoderLayer>,
    norm: LayerNorm,
}

impl Encoder {
    pub(super) fn new(
        parameters: &mut Parameters<'_>,
        key: &str,
        layers: usize,
        width: usize,
    ) -> Result<Self, NetworkError> {
        let layers = (0..layers).map(|layer| EncoderLayer::new(parameters, &format!("{key}.layers.{layer}"), width));
        let layers = Chain(layers.collect::<Result<_, _>>()?);
        let numbers = NormNumbers::take(parameters, &format!("{key}.norm"), width)?;
        Ok(Self { layers, norm: LayerNorm::learnt(&numbers)? })
    }
}

impl Layer for Encoder {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.norm.forward(&self.layers.forward(input)?)
    }
}

/// Self-attention over the tokens of a sequence, then a feed-forward layer per token.
#[derive(Debug)]
struct EncoderLayer {
    query_key_value: NormedLinear,
    out: Linear,
    expand: NormedLinear,
    contract: Linear,
}

impl EncoderLayer {
    fn new(parameters: &mut Parameters<'_>, key: &str, width: usize) -> Result<Self, NetworkError> {
        let name = |layer: &str| format!("{key}.{layer}");
        let (seen, wide) = ([width, 3 * width], EXPANSION * width);
        Ok(Self {
            query_key_value: NormedLinear::new(parameters, [&name("norm1"), &name("query_key_value")], seen)?,
            out: Linear::plain(parameters, &name("out"), [width, width])?,
            expand: NormedLinear::new(parameters, [&name("norm2"), &name("expand")], [width, wide])?,
            contract: Linear::plain(parameters, &name("contract"), [wide, width])?,
        })
    }

    fn attended(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let (sequences, tokens, width) = input.size3()?;
        let heads = side(HEADS);
        let seen = self.query_key_value.forward(input)?;
        let seen = seen.f_reshape([sequences, tokens, 3, heads, width / heads])?.f_permute([2, 0, 3, 1, 4])?;
        let [query, key, value] = [seen.f_select(0, 0)?, seen.f_select(0, 1)?, seen.f_select(0, 2)?];
        let (mask, dropout, causal, scale, grouped) = (None::<&Tensor>, 0.0, false, None::<f64>, false);
        let mixed =
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask, dropout, causal, scale, grouped)?;
        self.out.forward(&mixed.f_transpose(1, 2)?.f_reshape([sequences, tokens, width])?)
    }
}

impl Layer for EncoderLayer {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let attended = self.attended(input)?.f_add_(input)?;
        let wide = self.expand.forward(&attended)?.f_gelu_("none")?;
        self.contract.forward(&wide)?.f_add_(&attended)
    }
}

/// Layer normalisation and a fully connected layer.
#[derive(Debug)]
struct NormedLinear {
    norm: LayerNorm,
    linear: Linear,
}

impl NormedLinear {
    fn new(
        parameters: &mut Parameters<'_>,
        [norm, linear]: [&str; 2],
        [inputs, outputs]: [usize; 2],
    ) -> Result<Self, NetworkError> {
        let numbers = NormNumbers::take(parameters, norm, inputs)?;
        let linear = Affine::take(parameters, linear, &[outputs, inputs], Bias::Present)?;
        let (norm, linear) = match parameters.folding {
            Folding::Folded => {
                let wide = |numbers: &[f32]| numbers.iter().map(|number| f64::from(*number)).collect::<Vec<_>>();
                let scales = ChannelScales { factors: wide(&numbers.weight), shifts: wide(&numbers.bias) };
                (LayerNorm::bare(inputs), linear.preceded_by(&scales))
            }
            Folding::Unfolded => (LayerNorm::learnt(&numbers)?, linear),
        };
        Ok(Self { norm, linear: Linear::from(linear, [inputs, outputs])? })
    }
}

impl Layer for NormedLinear {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.linear.forward(&self.norm.forward(input)?)
    }
}

struct NormNumbers {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl NormNumbers {
    fn take(parameters: &mut Parameters<'_>, key: &str, width: usize) -> Result<Self, NetworkError> {
        Ok(Self {
            weight: parameters.take(&format!("{key}.weight"), &[width])?,
            bias: parameters.take(&format!("{key}.bias"), &[width])?,
        })
    }
}

/// Layer normalisation; its affine parameters may be folded into the next layer.
#[derive(Debug)]
struct LayerNorm {
    width: usize,
    learnt: Option<[Tensor; 2]>,
}

impl LayerNorm {
    fn bare(width: usize) -> Self {
        Self { width, learnt: None }
    }

    fn learnt(numbers: &NormNumbers) -> Result<Self, NetworkError> {
        let width = numbers.weight.len();
        Ok(Self { width, learnt: Some([tensor(&numbers.weight, &[width])?, tensor(&numbers.bias, &[width])?]) })
    }
}

impl Layer for LayerNorm {
    fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let [weight, bias] = match &self.learnt {
            None => [None, None],
            Some([weight, bias]) => [Some(weight), Some(bias)],
        };
        input.f_layer_norm([side(self.width)].as_slice(), weight, bias, NORM_EPSILON, false)
    }
}
