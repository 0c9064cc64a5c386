//! Rights on topics, for brokers that look at them.

use super::broker::Broker;
use super::wait::secs;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{
    ApiKey, CreateAclsRequest, CreateAclsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Properties of a broker that looks at rights. A topic on which anybody was given one is closed to all others.
pub const AUTHORIZER: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
    allow.everyone.if.no.acl.found=true\n";

/// What may be done with a topic, by the protocol's number.
#[derive(Clone, Copy, Debug)]
pub enum Right {
    Read = 3,
    Describe = 8,
}

/// `CreateAcls`, which librdkafka's Rust API lacks, before its headers became flexible.
const VERSION: i16 = 1;

impl Broker {
    /// Gives `User:NAME` a right on a topic.
    pub fn allow(&self, principal: &str, right: Right, topic: &str) {
        let allowed = 3;
        self.rule(allowed, principal, right, topic);
    }

    /// Denies it, whatever was given.
    pub fn deny(&self, principal: &str, right: Right, topic: &str) {
        let denied = 2;
        self.rule(denied, principal, right, topic);
    }

    fn rule(&self, permission: i8, principal: &str, right: Right, topic: &str) {
        let (topic_resource, literal) = (2, 3);
        let creation = AclCreation::default()
            .with_resource_type(topic_resource)
            .with_resource_name(StrBytes::from_string(topic.to_owned()))
            .with_resource_pattern_type(literal)
            .with_principal(StrBytes::from_string(principal.to_owned()))
            .with_host(StrBytes::from_static_str("*"))
            .with_operation(right as i8)
            .with_permission_type(permission);
        let mut request = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(ApiKey::CreateAcls as i16)
            .with_request_api_version(VERSION)
            .with_client_id(Some(StrBytes::from_static_str("suite")))
            .encode(&mut request, 1)
            .expect("a header");
        CreateAclsRequest::default()
            .with_creations(vec![creation])
            .encode(&mut request, VERSION)
            .expect("a request");
        let mut answer = self.converse(&request);
        ResponseHeader::decode(&mut answer, 0).expect("a header");
        let answered = CreateAclsResponse::decode(&mut answer, VERSION).expect("a response");
        assert!(!answer.has_remaining());
        for result in &answered.results {
            assert_eq!(result.error_code, 0, "{:?}", result.error_message);
        }
    }

    /// One request on a connection of its own, and the answer to it.
    pub(super) fn converse(&self, request: &[u8]) -> Bytes {
        let mut framed = BytesMut::new();
        framed.put_i32(i32::try_from(request.len()).expect("short"));
        framed.extend_from_slice(request);
        let mut stream = TcpStream::connect(self.bootstrap()).expect("the broker");
        stream.set_read_timeout(Some(secs(20))).expect("a timeout");
        stream.write_all(&framed).expect("sent");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("it fits")];
        stream.read_exact(&mut answer).expect("all of it");
        answer.into()
    }
}
