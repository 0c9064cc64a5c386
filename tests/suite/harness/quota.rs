//! Quotas on what clients read, for topics that take their time to load.

use super::broker::Broker;
use super::wait::{ensure, eventually, secs};
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, ApiKey, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
};
use kafka_protocol::protocol::StrBytes;

/// The entity that a quota is for.
const CLIENT: &str = "client-id";

/// `AlterClientQuotas` and `DescribeClientQuotas` before their headers became flexible.
const VERSION: i16 = 0;

impl Broker {
    /// Bounds what clients with this id read from now on, in bytes per second; `None` removes the bound.
    pub fn bound_reads(&self, client_id: &str, rate: Option<u32>) {
        let id = StrBytes::from_string(client_id.to_owned());
        let entity = EntityData::default()
            .with_entity_type(StrBytes::from_static_str(CLIENT))
            .with_entity_name(Some(id.clone()));
        let change = OpData::default()
            .with_key(StrBytes::from_static_str("consumer_byte_rate"))
            .with_value(f64::from(rate.unwrap_or_default()))
            .with_remove(rate.is_none());
        let entry = EntryData::default()
            .with_entity(vec![entity])
            .with_ops(vec![change]);
        let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
        let altered: AlterClientQuotasResponse = self.ask(ApiKey::AlterClientQuotas, VERSION, &request);
        for entry in &altered.entries {
            assert_eq!(entry.error_code, 0, "{:?}", entry.error_message);
        }
        let exactly = 0;
        let component = ComponentData::default()
            .with_entity_type(StrBytes::from_static_str(CLIENT))
            .with_match_type(exactly)
            .with_match(Some(id));
        let request = DescribeClientQuotasRequest::default().with_components(vec![component]);
        eventually(secs(30), "the broker goes by the new quota", || {
            let known: DescribeClientQuotasResponse =
                self.ask(ApiKey::DescribeClientQuotas, VERSION, &request);
            let has_quota = known.entries.as_ref().is_some_and(|entries| !entries.is_empty());
            ensure(has_quota == rate.is_some(), format!("{known:?}"))
        });
    }
}
