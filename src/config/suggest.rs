//! The known name that is nearest to an unknown one, for messages.

/// The least similarity of a suggestion (Jaro-Winkler; 1 is equal).
const NEAR: f64 = 0.75;

/// The most similar of the known names, if one is similar enough.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rated = known.into_iter().map(|name| {
        let similarity = strsim::jaro_winkler(wrong, name);
        // Jaro-Winkler rates swapped letters in short names too low.
        let is_one_off = strsim::osa_distance(wrong, name) == 1;
        (
            if is_one_off {
                similarity.max(NEAR)
            } else {
                similarity
            },
            name,
        )
    });
    rated
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_error_suggests_the_key_that_was_meant_and_others_suggest_none() {
        let known = ["path", "topics", "start", "key_field", "lag", "log_bytes"];
        for (wrong, meant) in [
            ("keyfield", Some("key_field")),
            ("topic", Some("topics")),
            ("lga", Some("lag")),
            ("logbyte", Some("log_bytes")),
            ("password", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, known), meant, "{wrong}");
        }
    }
}
