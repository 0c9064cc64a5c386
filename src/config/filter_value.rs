//! The values of filters as the configuration writes them: text, and what only a request has.

use super::claims::is_claim_name;

/// A value as the configuration writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written<'a> {
    /// Text that is compared as it is.
    Text(&'a str),
    /// `{name}`: the value of a parameter of the stream's path.
    Parameter(&'a str),
    /// `${claims.name}`: the values of a claim of the client.
    Claim(&'a str),
}

/// The beginning of a value that is a claim; it ends with a brace.
pub(crate) const CLAIM: &str = "${claims.";

impl<'a> Written<'a> {
    /// Parses a value. `{{name}}` is the text `{name}`; every further pair of braces adds one to the text. Likewise
    /// `$${claims.name}` is the text `${claims.name}`.
    pub(crate) fn parse(text: &'a str) -> Self {
        // Of several dollars the last belongs to the claim.
        let dollars = text.len() - text.trim_start_matches('$').len();
        let claim = text.get(dollars.saturating_sub(1)..).and_then(|text| {
            let name = text.strip_prefix(CLAIM)?.strip_suffix('}')?;
            is_claim_name(name).then_some(name)
        });
        if let Some(name) = claim {
            return if dollars == 1 {
                Self::Claim(name)
            } else {
                Self::Text(text.get(1..).unwrap_or_default())
            };
        }
        let inner = |text: &'a str| text.strip_prefix('{')?.strip_suffix('}');
        let Some(content) = inner(text) else {
            return Self::Text(text);
        };
        if is_parameter_name(content) {
            return Self::Parameter(content);
        }
        let mut core = content;
        while let Some(content) = inner(core) {
            core = content;
        }
        Self::Text(if is_parameter_name(core) { content } else { text })
    }
}

/// Whether a text can be the name of a path's parameter: letters, digits and underscores, without a digit first.
pub(crate) fn is_parameter_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether one of the values of a configuration is known only by a request: a parameter of the path, or a claim.
pub(crate) fn is_bound(values: &[String]) -> bool {
    values
        .iter()
        .any(|value| !matches!(Written::parse(value), Written::Text(_)))
}

#[cfg(test)]
mod tests {
    use super::Written;

    #[test]
    fn only_a_whole_value_in_braces_is_a_parameter_and_double_braces_are_text() {
        for (text, written) in [
            ("{id}", Written::Parameter("id")),
            ("{_a1}", Written::Parameter("_a1")),
            ("{{id}}", Written::Text("{id}")),
            ("{{{id}}}", Written::Text("{{id}}")),
            ("user-{id}", Written::Text("user-{id}")),
            ("{1}", Written::Text("{1}")),
            ("{}", Written::Text("{}")),
            ("{{}}", Written::Text("{{}}")),
            (r#"{"a":{}}"#, Written::Text(r#"{"a":{}}"#)),
            ("${claims.sub}", Written::Claim("sub")),
            (
                "${claims.realm_access.roles}",
                Written::Claim("realm_access.roles"),
            ),
            ("$${claims.sub}", Written::Text("${claims.sub}")),
            ("$$${claims.sub}", Written::Text("$${claims.sub}")),
            ("${claims.}", Written::Text("${claims.}")),
            ("${claim.sub}", Written::Text("${claim.sub}")),
            ("$$", Written::Text("$$")),
            ("u-${claims.sub}", Written::Text("u-${claims.sub}")),
        ] {
            assert_eq!(Written::parse(text), written, "{text}");
        }
    }
}
