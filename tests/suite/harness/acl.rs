//! Rights on topics, for brokers that look at them.

use super::broker::Broker;
use super::wait::{ensure, eventually, secs};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{
    ApiKey, CreateAclsRequest, CreateAclsResponse, DescribeAclsRequest, DescribeAclsResponse, RequestHeader,
    ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Properties of a broker that checks ACLs. A topic with an ACL is closed to all other principals.
pub const AUTHORIZER: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
    allow.everyone.if.no.acl.found=true\n";

/// A right on a topic, by the protocol's number.
#[derive(Clone, Copy, Debug)]
pub enum Right {
    Read = 3,
    Describe = 8,
}

/// `CreateAcls` and `DescribeAcls` before their headers became flexible.
const VERSION: i16 = 1;

/// The protocol's number of a topic as a resource.
const TOPIC: i8 = 2;

/// The protocol's number of a pattern that is a name.
const LITERAL: i8 = 3;

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

    /// Creates a rule, and returns once the broker goes by it: the controller answers before.
    fn rule(&self, permission: i8, principal: &str, right: Right, topic: &str) {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let creation = AclCreation::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_resource_pattern_type(LITERAL)
            .with_principal(text(principal))
            .with_host(text("*"))
            .with_operation(right as i8)
            .with_permission_type(permission);
        let creations = CreateAclsRequest::default().with_creations(vec![creation]);
        let created: CreateAclsResponse = self.ask(ApiKey::CreateAcls, VERSION, &creations);
        for result in &created.results {
            assert_eq!(result.error_code, 0, "{:?}", result.error_message);
        }
        let rule = DescribeAclsRequest::default()
            .with_resource_type_filter(TOPIC)
            .with_resource_name_filter(Some(text(topic)))
            .with_pattern_type_filter(LITERAL)
            .with_principal_filter(Some(text(principal)))
            .with_host_filter(Some(text("*")))
            .with_operation(right as i8)
            .with_permission_type(permission);
        eventually(secs(30), "the broker goes by the new rule", || {
            let known: DescribeAclsResponse = self.ask(ApiKey::DescribeAcls, VERSION, &rule);
            ensure(!known.resources.is_empty(), format!("{known:?}"))
        });
    }

    /// The answer to a request in a version whose headers are not flexible, which librdkafka's Rust API lacks.
    pub(super) fn ask<T: Decodable>(&self, key: ApiKey, version: i16, question: &impl Encodable) -> T {
        let mut request = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_client_id(Some(StrBytes::from_static_str("suite")))
            .encode(&mut request, 1)
            .expect("a header");
        question.encode(&mut request, version).expect("a request");
        let mut answer = self.converse(&request);
        ResponseHeader::decode(&mut answer, 0).expect("a header");
        let answered = T::decode(&mut answer, version).expect("a response");
        assert!(!answer.has_remaining());
        answered
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
