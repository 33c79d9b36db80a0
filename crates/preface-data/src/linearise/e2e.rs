//! E2E: `name[Blue Spice], eatType[coffee shop]` -> `name : Blue Spice | Type : coffee shop`.
//!
//! Three keys are renamed, as in the files that Li and Liang trained on: `eatType`, `priceRange` and `familyFriendly`
//! are no words, and a pretrained model reads words.

use crate::error::{Fault, shortened};

/// The slots of a meaning representation as text, in their order.
pub(super) fn linearise(representation: &str) -> Result<String, Fault> {
    let malformed = |at: &str| Fault::MeaningRepresentation { at: shortened(at) };
    let body = representation.trim().strip_suffix(']').ok_or_else(|| malformed(representation))?;
    let mut slots = Vec::new();
    // Split at the closing bracket, not at the comma: a value may hold commas.
    for slot in body.split("],") {
        let (name, value) = slot.split_once('[').ok_or_else(|| malformed(slot))?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.contains(']') {
            return Err(malformed(slot));
        }
        slots.push(format!("{} : {value}", renamed(name)));
    }
    Ok(slots.join(" | "))
}

fn renamed(name: &str) -> &str {
    match name {
        "eatType" => "Type",
        "priceRange" => "price",
        "familyFriendly" => "family friendly",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_paper() {
        let text = linearise("name[Blue Spice], eatType[coffee shop], area[city centre]").unwrap();
        assert_eq!(text, "name : Blue Spice | Type : coffee shop | area : city centre");
    }

    #[test]
    fn three_keys_are_renamed_and_the_others_kept() {
        let all = "name[n], eatType[pub], food[Thai], priceRange[more than £30], customer rating[5 out of 5], \
                   area[riverside], familyFriendly[no], near[Café Adriatic]";
        assert_eq!(
            linearise(all).unwrap(),
            "name : n | Type : pub | food : Thai | price : more than £30 | customer rating : 5 out of 5 | \
             area : riverside | family friendly : no | near : Café Adriatic"
        );
    }

    #[test]
    fn a_value_may_hold_commas_and_be_empty() {
        assert_eq!(linearise("name[Fish, Chips], near[]").unwrap(), "name : Fish, Chips | near : ");
    }

    #[test]
    fn what_has_no_brackets_is_refused_with_its_text() {
        for bad in ["", "name", "name[x", "name[x], area", "name[x], ]", "[x]", "name[x] area[y], z"] {
            let fault = linearise(bad).unwrap_err();
            assert!(matches!(fault, Fault::MeaningRepresentation { .. }), "{bad}");
        }
        assert!(linearise("name[x], area").unwrap_err().to_string().contains("area"));
    }
}
