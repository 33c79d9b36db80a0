//! The settings of an encoder-decoder's prefix: where there are rows, how many, and where the decoder's text starts.

use anyhow::Result;
use preface_model::{Family, PrefixPlace};
use preface_tune::{DecoderPositions, PlacesError};

use super::sections::{MethodName, Places};
use super::{Typed, section, setting};

impl Places {
    /// Rows of a place by a setting of its own.
    pub fn own_len(&self, place: PrefixPlace) -> Option<usize> {
        match place {
            PrefixPlace::Encoder => self.num_virtual_tokens_encoder,
            PrefixPlace::Decoder => self.num_virtual_tokens_decoder,
            PrefixPlace::Cross => self.num_virtual_tokens_cross,
        }
    }

    /// Positions that a prefix takes ahead of the decoder's text if it has `decoder_len` rows there.
    pub fn first_position(&self, decoder_len: usize) -> usize {
        let has_rows = self.places.as_ref().is_none_or(|places| places.contains(&PrefixPlace::Decoder));
        match self.decoder_positions.unwrap_or_default() {
            DecoderPositions::AfterPrefix if has_rows => decoder_len,
            _ => 0,
        }
    }
}

/// The section over its defaults, checked against the family.
pub(super) fn resolve(typed: &Typed, defaults: Places, family: Family, method: MethodName) -> Result<Places> {
    if method != MethodName::Prefix {
        return Ok(Places::default());
    }
    let places: Places = section(typed, setting::PLACES, &defaults)?;
    let wrong = |reason: String| Err(typed.wrong(reason));
    let named = places.places.clone().unwrap_or_else(|| vec![PrefixPlace::Decoder]);
    if named.is_empty() {
        return wrong(PlacesError::NoPlace.to_string());
    }
    if let Some(&place) =
        named.iter().enumerate().find_map(|(i, place)| named[..i].contains(place).then_some(place))
    {
        return wrong(PlacesError::Twice { place }.to_string());
    }
    if family.has_encoder() {
        let unused = PrefixPlace::ALL
            .into_iter()
            .find(|place| !named.contains(place) && places.own_len(*place).is_some());
        return match unused {
            Some(place) => wrong(format!(
                "`num_virtual_tokens_{place}` is given, but `places` does not name the {place}"
            )),
            None if places.init_text_decoder.is_some() && !named.contains(&PrefixPlace::Decoder) => {
                wrong("`init_text_decoder` is given, but `places` does not name the decoder".into())
            }
            None => Ok(places),
        };
    }
    if let Some(&place) = named.iter().find(|place| **place != PrefixPlace::Decoder) {
        return wrong(PlacesError::NoSuchPlace { place }.to_string());
    }
    match setting::PLACES.settings.iter().find(|setting| setting.name != "places" && typed.has(setting.name))
    {
        Some(setting) => {
            wrong(format!("`{}` is a setting of encoder-decoders; this model is decoder-only", setting.name))
        }
        None => Ok(Places::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(lines: &str, family: Family) -> Result<Places, String> {
        let typed = Typed::new(toml::from_str(lines).unwrap());
        let defaults = super::super::recipe::recipe("default", family).places;
        resolve(&typed, defaults, family, MethodName::Prefix).map_err(|error| error.to_string())
    }

    #[test]
    fn an_encoder_decoder_has_all_places_unless_some_are_named() {
        let all = places("", Family::Bart).unwrap();
        assert_eq!(all.places, Some(PrefixPlace::ALL.into()));
        assert_eq!(all.decoder_positions, Some(DecoderPositions::AfterPrefix));
        assert_eq!(all.first_position(7), 7);
        let two =
            places("places = [\"encoder\", \"cross\"]\nnum_virtual_tokens_cross = 3", Family::T5).unwrap();
        assert_eq!(two.places, Some(vec![PrefixPlace::Encoder, PrefixPlace::Cross]));
        assert_eq!((two.own_len(PrefixPlace::Cross), two.own_len(PrefixPlace::Encoder)), (Some(3), None));
        assert_eq!(two.first_position(7), 0);
        let zero = places("decoder_positions = \"from_zero\"", Family::T5).unwrap();
        assert_eq!(zero.first_position(7), 0);
        assert_eq!(places("", Family::Llama).unwrap(), Places::default());
        assert_eq!(places("places = [\"decoder\"]", Family::Llama).unwrap(), Places::default());
    }

    #[test]
    fn what_cannot_be_is_an_error_that_names_the_setting() {
        for (lines, family, needles) in [
            (
                "places = [\"decoder\", \"encoder\"]",
                Family::Gpt2,
                ["`places` names the encoder", "decoder-only"],
            ),
            ("places = []", Family::Bart, ["`places` is empty", "encoder, decoder, cross"]),
            ("places = [\"cross\", \"cross\"]", Family::Bart, ["`places` names the cross", "twice"]),
            ("decoder_positions = \"from_zero\"", Family::Llama, ["`decoder_positions`", "decoder-only"]),
            ("num_virtual_tokens_cross = 3", Family::Llama, ["`num_virtual_tokens_cross`", "decoder-only"]),
            (
                "places = [\"decoder\"]\nnum_virtual_tokens_cross = 3",
                Family::Bart,
                ["`num_virtual_tokens_cross`", "`places` does not name the cross"],
            ),
        ] {
            let error = places(lines, family).unwrap_err();
            assert!(needles.iter().all(|needle| error.contains(needle)), "{lines}: {error}");
        }
    }
}
