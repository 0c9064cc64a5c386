//! The files that the settings name, and whether their content has changed since they were read.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use super::security::FileName;
use super::settings::Draft;

impl FileName {
    /// A hash of the present content, or of the error of reading it. Its key is one of this process, so that it cannot
    /// serve to test guessed passwords.
    pub(crate) fn content_hash(&self) -> u64 {
        static KEYS: OnceLock<RandomState> = OnceLock::new();
        KEYS.get_or_init(RandomState::new).hash_one(self.read())
    }
}

impl Draft {
    /// All files that are named by a [`FileName`], with their keys.
    fn files(&self) -> impl Iterator<Item = (String, &FileName)> {
        let (kafka, http, auth) = (&self.kafka, &self.http, &self.auth);
        let tls = kafka.tls.iter().flat_map(|tls| {
            [
                ("kafka.tls.ca_file", &tls.ca_file),
                ("kafka.tls.cert_file", &tls.cert_file),
                ("kafka.tls.key_file", &tls.key_file),
            ]
        });
        let sasl = kafka.sasl.iter().flat_map(|sasl| {
            [
                ("kafka.sasl.password_file", &sasl.password_file),
                ("kafka.sasl.token_file", &sasl.token_file),
            ]
        });
        let jwt = auth.jwt.iter().flat_map(|jwt| {
            [
                ("auth.jwt.key_file", &jwt.key_file),
                ("auth.jwt.jwks_ca_file", &jwt.jwks_ca_file),
            ]
        });
        let tokens = auth
            .tokens
            .iter()
            .map(|tokens| ("auth.tokens.file", &tokens.file));
        let clients = http
            .tls
            .iter()
            .map(|tls| ("http.tls.client_ca_file", &tls.client_ca_file));
        let named = tls
            .chain(sasl)
            .chain(jwt)
            .chain(tokens)
            .chain(clients)
            .filter_map(|(key, file)| Some((key, file.as_ref()?)))
            .chain(kafka.schema_registry.files())
            .map(|(key, file)| (key.to_owned(), file));
        let pairs = http
            .tls
            .iter()
            .flat_map(|tls| tls.certificates.iter().enumerate());
        named.chain(pairs.flat_map(|(index, pair)| {
            let key = |name: &str| format!("http.tls.certificates[{index}].{name}");
            [
                (key("cert_file"), &pair.cert_file),
                (key("key_file"), &pair.key_file),
            ]
        }))
    }
}

/// Hashes of the content of all files of some settings, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileContents(BTreeMap<String, (FileName, u64)>);

impl FileContents {
    /// Reads the files. Blocks.
    pub(crate) fn read(settings: &Draft) -> Self {
        let files = settings.files();
        Self(
            files
                .map(|(key, file)| (key, (file.clone(), file.content_hash())))
                .collect(),
        )
    }

    /// The keys that name the same file as before, which has another content.
    pub(crate) fn changed_since(&self, before: &Self) -> Vec<&str> {
        let is_changed = |(key, (file, hash)): &(&String, &(FileName, u64))| {
            let before = before.0.get(*key);
            before.is_some_and(|(named, before)| named == file && before != hash)
        };
        let changed = self.0.iter().filter(is_changed);
        changed.map(|(key, _)| key.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::reload_effect;
    use super::*;

    /// Every key that names a file, in `directory`.
    fn draft(directory: &str) -> Draft {
        let text = "
            [kafka]
            tls = { ca_file = 'D/a', cert_file = 'D/b', key_file = 'D/c' }
            sasl = { password_file = 'D/d', token_file = 'D/e' }
            [kafka.schema_registry]
            password_file = 'D/f'
            token_file = 'D/g'
            ca_file = 'D/h'
            cert_file = 'D/i'
            key_file = 'D/j'
            [auth]
            jwt = { key_file = 'D/k', jwks_ca_file = 'D/l' }
            tokens = { file = 'D/m' }
            [http.tls]
            client_ca_file = 'D/n'
            certificates = [{ cert_file = 'D/o', key_file = 'D/p' }, { cert_file = 'D/q', key_file = 'D/r' }]
        ";
        toml::from_str(&text.replace('D', directory)).expect("a draft")
    }

    #[test]
    fn every_key_that_names_a_file_is_looked_at() {
        let draft = draft("/nowhere");
        let listed: Vec<String> = draft.files().map(|(key, _)| key).collect();
        let named = reload_effect::all()
            .into_iter()
            .map(|(key, _)| key)
            // It is written, not read.
            .filter(|key| key.ends_with("file") && key != "log.file");
        let named: Vec<String> = named.collect();
        assert!(named.len() >= 14, "{named:?}");
        for key in named {
            assert!(listed.contains(&key), "{key}");
        }
        assert!(
            listed.contains(&"http.tls.certificates[1].key_file".to_owned()),
            "{listed:?}"
        );
        assert_eq!(listed.len(), 18);
    }

    #[test]
    fn content_that_has_changed_is_named_by_its_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("UTF-8");
        for name in 'a'..='r' {
            fs::write(directory.path().join(name.to_string()), "before").expect("written");
        }
        let draft = draft(path);
        let before = FileContents::read(&draft);
        assert_eq!(
            FileContents::read(&draft).changed_since(&before),
            Vec::<&str>::new()
        );
        fs::write(directory.path().join("m"), "after").expect("written");
        fs::remove_file(directory.path().join("p")).expect("removed");
        let after = FileContents::read(&draft);
        assert_eq!(
            after.changed_since(&before),
            ["auth.tokens.file", "http.tls.certificates[0].key_file"]
        );
        // Another file is a change of the key.
        let elsewhere = FileContents::read(&self::draft("/nowhere"));
        assert_eq!(elsewhere.changed_since(&before), Vec::<&str>::new());
        assert_eq!(before.changed_since(&FileContents::default()), Vec::<&str>::new());
    }
}
