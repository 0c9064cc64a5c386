//! A broker with authentication: listeners with TLS, client certificates and logins beside the plain one, which allows
//! everything.

use super::broker::{Broker, Version, free_port};
use super::wait::secs;
use super::{name_of, scratch, trial};
use bytes::{Buf, BytesMut};
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, ApiKey, RequestHeader,
    ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use libtest_mimic::Trial;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// The user that PLAIN knows, as Kafka keeps those in its settings.
pub const USER: &str = "bridge";
/// The password of [`USER`].
pub const PASSWORD: &str = "a secret, with \"all\" it may hold \\ ";

/// The listeners beside the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// TLS.
    Tls,
    /// TLS, with a certificate of the client's.
    Mutual,
    /// A login over TLS.
    SaslTls,
    /// A login.
    Sasl,
}

/// A broker, and the certificates of its little world.
pub struct Secured {
    pub broker: Broker,
    ports: [u16; 4],
    directory: TempDir,
    authority: Authority,
}

type Shared = Mutex<Option<Arc<Secured>>>;
static SHARED: [Shared; 2] = [const { Mutex::new(None) }; 2];

/// A test on the suite's shared secured broker of one Kafka version.
pub fn on_secured(version: Version, test: impl FnOnce(&Secured) + Send + 'static) -> Trial {
    let name = format!("{}@{version}", name_of(&test));
    trial(name, move || test(&Secured::shared(version)))
}

/// The same test once per Kafka version, each on the suite's shared secured broker.
pub fn on_each_secured(test: impl Fn(&Secured) + Copy + Send + 'static) -> Vec<Trial> {
    Version::ALL.map(|version| on_secured(version, test)).into()
}

impl Secured {
    /// The one that all tests share.
    pub fn shared(version: Version) -> Arc<Secured> {
        let mut slot = SHARED[version as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slot.get_or_insert_with(|| Arc::new(Secured::start(version))))
    }

    fn start(version: Version) -> Secured {
        let directory = scratch::directory("secured");
        let authority = Authority::new("the suite's CA");
        let place = |name: &str| directory.path().join(name);
        fs::write(place("ca.pem"), authority.pem()).expect("written");
        fs::write(place("other-ca.pem"), Authority::new("somebody else's CA").pem()).expect("written");
        let (certificate, key) = authority.sign("broker", Some("127.0.0.1"));
        fs::write(place("broker.pem"), [key, certificate].concat()).expect("written");
        let ports = [(); 4].map(|()| free_port());
        let broker = Broker::start_with(version, &properties(ports, &directory));
        Secured {
            broker,
            ports,
            directory,
            authority,
        }
    }

    pub fn address(&self, listener: Listener) -> String {
        format!("127.0.0.1:{}", self.ports[listener as usize])
    }

    pub fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// The certificate of the authority that signed the broker's.
    pub fn ca(&self) -> String {
        self.file("ca.pem")
    }

    /// A certificate for `CN=name` and its key, signed by the same.
    pub fn certificate(&self, name: &str) -> (String, String) {
        let (certificate, key) = self.authority.sign(name, None);
        let files = (
            self.file(&format!("{name}.cert.pem")),
            self.file(&format!("{name}.key.pem")),
        );
        fs::write(&files.0, certificate).expect("written");
        fs::write(&files.1, key).expect("written");
        files
    }

    /// A file of this content, and of no name that matters.
    pub fn secret(&self, content: &str) -> String {
        let path = self.file(&super::broker::topic_name("secret"));
        fs::write(&path, content).expect("written");
        path
    }

    /// Makes the password of a user for both kinds of SCRAM.
    pub fn set_password(&self, user: &str, password: &str) {
        let upsertion = |(mechanism, digest): (i8, MessageDigest)| {
            let (salt, iterations) = (b"of the suite's own".as_slice(), 4096);
            let mut salted = vec![0; digest.size()];
            pbkdf2_hmac(
                password.as_bytes(),
                salt,
                usize::try_from(iterations).expect("positive"),
                digest,
                &mut salted,
            )
            .expect("a hash");
            ScramCredentialUpsertion::default()
                .with_name(StrBytes::from_string(user.to_owned()))
                .with_mechanism(mechanism)
                .with_iterations(iterations)
                .with_salt(salt.into())
                .with_salted_password(salted.into())
        };
        let kinds = [(1, MessageDigest::sha256()), (2, MessageDigest::sha512())];
        for kind in kinds {
            // Of one user a request may change one.
            let body = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion(kind)]);
            let mut request = BytesMut::new();
            RequestHeader::default()
                .with_request_api_key(ApiKey::AlterUserScramCredentials as i16)
                .with_client_id(Some(StrBytes::from_static_str("suite")))
                .encode(&mut request, 2)
                .expect("a header");
            body.encode(&mut request, 0).expect("a request");
            let mut answer = self.broker.converse(&request);
            ResponseHeader::decode(&mut answer, 1).expect("a header");
            let answered = AlterUserScramCredentialsResponse::decode(&mut answer, 0).expect("a response");
            assert!(!answer.has_remaining());
            for result in &answered.results {
                assert_eq!(result.error_code, 0, "{:?}", result.error_message);
            }
        }
    }
}

fn properties(ports: [u16; 4], directory: &TempDir) -> String {
    let [tls, mutual, sasl_tls, sasl] = ports;
    let all = format!(
        "PLAINTEXT://127.0.0.1:{{port}},TLS://127.0.0.1:{tls},MUTUAL://127.0.0.1:{mutual},\
         SASLTLS://127.0.0.1:{sasl_tls},SASLPLAIN://127.0.0.1:{sasl}"
    );
    let modules = "org.apache.kafka.common.security";
    let password = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"");
    let logins = |listener: &str| {
        let login = |mechanism: &str, module: &str, options: &str| {
            let login = format!("{modules}.{module}LoginModule required{options};").replace('\\', "\\\\");
            format!("listener.name.{listener}.{mechanism}.sasl.jaas.config={login}\n")
        };
        [
            login("plain", "plain.Plain", &format!(" user_{USER}=\"{password}\"")),
            login("scram-sha-256", "scram.Scram", ""),
            login("scram-sha-512", "scram.Scram", ""),
            login("oauthbearer", "oauthbearer.OAuthBearer", ""),
            // The broker closes connections whose token has expired.
            format!("listener.name.{listener}.oauthbearer.connections.max.reauth.ms=3600000\n"),
            format!(
                "listener.name.{listener}.oauthbearer.sasl.server.callback.handler.class={modules}.oauthbearer.\
                 internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler\n"
            ),
        ]
        .concat()
    };
    format!(
        "\
listeners={all},CONTROLLER://127.0.0.1:{{controller}}
advertised.listeners={all}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,TLS:SSL,MUTUAL:SSL,SASLTLS:SASL_SSL,SASLPLAIN:SASL_PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={directory}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={directory}/ca.pem
listener.name.mutual.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
# Here nobody stays who does not prove the password once more.
listener.name.saslplain.scram-sha-512.connections.max.reauth.ms=4000
{}{}",
        logins("sasltls"),
        logins("saslplain"),
        directory = directory.path().display(),
    )
}

pub(super) fn stop_shared() {
    for slot in &SHARED {
        drop(slot.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// An unsecured JWT (RFC 7519, section 6), valid for so many seconds from now.
pub fn token(subject: &str, lifetime: i64) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let now = i64::try_from(now).expect("it fits");
    token_until(subject, &(now + lifetime).to_string())
}

/// The same, with this `exp`.
pub fn token_until(subject: &str, exp: &str) -> String {
    let encode = |json: &str| openssl::base64::encode_block(json.as_bytes());
    let part = |json: &str| {
        let text = encode(json);
        text.trim_end_matches('=').replace('+', "-").replace('/', "_")
    };
    let claims = format!(r#"{{"sub":"{subject}","iat":1700000000,"exp":{exp}}}"#);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

/// The certificate authority.
pub struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = key();
        let mut builder = builder(name, &key);
        builder.set_issuer_name(&common_name(name)).expect("an issuer");
        let extension = BasicConstraints::new().critical().ca().build().expect("valid");
        builder.append_extension(extension).expect("an extension");
        builder.sign(&key, MessageDigest::sha256()).expect("signed");
        Authority {
            key,
            certificate: builder.build(),
        }
    }

    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().expect("PEM")
    }

    /// Certificate and key, in PEM, for `CN=name` and perhaps for an address.
    pub fn sign(&self, name: &str, address: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let mut names = SubjectAlternativeName::new();
        if let Some(address) = address {
            names.ip(address);
        }
        self.sign_until(name, address.map(|_| &names), secs(2 * 24 * 60 * 60))
    }

    /// The same, with these names, and valid for so long.
    pub fn sign_until(
        &self,
        name: &str,
        names: Option<&SubjectAlternativeName>,
        valid: Duration,
    ) -> (Vec<u8>, Vec<u8>) {
        self.sign_subject(&common_name(name), names, valid)
    }

    /// The same, for any subject.
    pub fn sign_subject(
        &self,
        subject: &X509Name,
        names: Option<&SubjectAlternativeName>,
        valid: Duration,
    ) -> (Vec<u8>, Vec<u8>) {
        let key = key();
        let mut builder = builder("another", &key);
        builder.set_subject_name(subject).expect("a subject");
        builder
            .set_issuer_name(self.certificate.subject_name())
            .expect("an issuer");
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        let end = i64::try_from((now + valid).as_secs()).expect("it fits");
        let end = Asn1Time::from_unix(end).expect("a time");
        builder.set_not_after(&end).expect("a time");
        if let Some(names) = names {
            let context = builder.x509v3_context(Some(&self.certificate), None);
            let extension = names.build(&context).expect("valid");
            builder.append_extension(extension).expect("an extension");
        }
        builder.sign(&self.key, MessageDigest::sha256()).expect("signed");
        let certificate = builder.build().to_pem().expect("PEM");
        (certificate, key.private_key_to_pem_pkcs8().expect("PEM"))
    }
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

fn common_name(name: &str) -> X509Name {
    let mut builder = X509Name::builder().expect("a name");
    builder.append_entry_by_text("CN", name).expect("a name");
    builder.build()
}

fn builder(name: &str, key: &PKey<Private>) -> openssl::x509::X509Builder {
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("version 3");
    let mut serial = BigNum::new().expect("a number");
    serial
        .rand(64, openssl::bn::MsbOption::MAYBE_ZERO, false)
        .expect("a number");
    builder
        .set_serial_number(&serial.to_asn1_integer().expect("a number"))
        .expect("a serial number");
    builder.set_subject_name(&common_name(name)).expect("a subject");
    builder.set_pubkey(key).expect("a key");
    builder
        .set_not_before(&Asn1Time::days_from_now(0).expect("today"))
        .expect("a day");
    builder
        .set_not_after(&Asn1Time::days_from_now(2).expect("then"))
        .expect("a day");
    builder
}
