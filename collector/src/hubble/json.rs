//! Hubble's messages as JSON, in protobuf's own mapping and under the definitions' field names, as `hubble observe -o jsonpb`
//! writes them. What a newer server wrote and our definitions do not know stays beside the message and is written again.
//! Pure.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value};

use super::proto::{
    DESCRIPTORS,
    observer::{GetFlowsResponse, get_flows_response::ResponseTypes},
};

/// Our messages, and the well-known types that an `Any` may hold.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::global();
    // What is in a build is either whole or breaks every test.
    let added = pool.decode_file_descriptor_set(DESCRIPTORS);
    debug_assert!(added.is_ok(), "{added:?}");
    pool
});

/// Why a line is no response.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("the line is no JSON; hint: `hubble observe -o jsonpb` writes what is read here")]
    Json(#[source] serde_json::Error),
    /// JSON, but not Hubble's.
    #[error("the line is no GetFlowsResponse; hint: `hubble observe -o jsonpb` writes what is read here")]
    Shape(#[source] serde_json::Error),
    /// A JSON value without any of the fields.
    #[error("the line has none of a response's fields: flow, node_status, lost_events")]
    Empty,
    /// A message that JSON cannot hold, such as a time after the year 9999.
    #[error("the message cannot be written as JSON")]
    Write(#[source] serde_json::Error),
}

/// A response, and what JSON brought beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// What we know of it.
    pub message: GetFlowsResponse,
    /// Fields and enumeration values that only a newer definition knows, in their places; `Null` where there are none.
    rest: Value,
}

impl From<GetFlowsResponse> for Response {
    fn from(message: GetFlowsResponse) -> Self {
        Self { message, rest: Value::Null }
    }
}

impl Response {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is not a response.
    pub fn from_json(line: &str) -> Result<Self, JsonError> {
        let mut value: Value = serde_json::from_str(line).map_err(JsonError::Json)?;
        // Before 1.0 a line was the flow itself.
        if value.get("verdict").is_some() || value.get("IP").is_some() {
            value = Value::Object(Map::from_iter([("flow".to_owned(), value)]));
        }
        let descriptor = descriptor();
        let read = parse(&descriptor, &value).or_else(|error| {
            // An extension of a type that nobody told us of is kept as it is written.
            let mut known = value.clone();
            let flow = known.get_mut("flow").and_then(Value::as_object_mut);
            flow.and_then(|flow| flow.remove("extensions")).ok_or(error)?;
            parse(&descriptor, &known)
        });
        let dynamic = read.map_err(JsonError::Shape)?;
        let written = write(&dynamic).map_err(JsonError::Write)?;
        let rest = missing(&value, &written, Some(&descriptor));
        let message: GetFlowsResponse = dynamic.transcode_to().map_err(|_| JsonError::Empty)?;
        if message.response_types.is_none() {
            return Err(JsonError::Empty);
        }
        Ok(Self { message, rest: rest.unwrap_or(Value::Null) })
    }

    /// Writes it, with all that [`Response::from_json`] read.
    ///
    /// # Errors
    /// When JSON cannot hold it.
    pub fn to_json(&self) -> Result<Value, JsonError> {
        let mut value = match encode(&self.message) {
            Ok(value) => value,
            Err(error) => without_known_extension(&self.message).ok_or(error)??,
        };
        put_back(&mut value, &self.rest);
        Ok(value)
    }
}

fn descriptor() -> MessageDescriptor {
    POOL.get_message_by_name("observer.GetFlowsResponse").expect("it is in the definitions")
}

fn parse(descriptor: &MessageDescriptor, value: &Value) -> Result<DynamicMessage, serde_json::Error> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    DynamicMessage::deserialize_with_options(descriptor.clone(), value, &options)
}

fn write(message: &DynamicMessage) -> Result<Value, serde_json::Error> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options)
}

fn encode(message: &GetFlowsResponse) -> Result<Value, JsonError> {
    let bytes = message.encode_to_vec();
    let dynamic = DynamicMessage::decode(descriptor(), bytes.as_slice()).map_err(|_| JsonError::Empty)?;
    write(&dynamic).map_err(JsonError::Write)
}

/// The message with its extension as type and bytes, as the type is not known.
fn without_known_extension(message: &GetFlowsResponse) -> Option<Result<Value, JsonError>> {
    let mut message = message.clone();
    let Some(ResponseTypes::Flow(flow)) = &mut message.response_types else { return None };
    let extension = flow.extensions.take()?;
    let bytes = POOL.get_message_by_name("google.protobuf.BytesValue")?;
    let mut wrapped = DynamicMessage::new(bytes);
    wrapped.set_field_by_name("value", prost_reflect::Value::Bytes(extension.value.into()));
    let value = write(&wrapped).ok()?;
    let told = serde_json::json!({ "flow": { "extensions": { "@type": extension.type_url, "value": value } } });
    Some(encode(&message).map(|mut value| {
        put_back(&mut value, &told);
        value
    }))
}

/// What `original` has and `written` lacks.
fn missing(original: &Value, written: &Value, descriptor: Option<&MessageDescriptor>) -> Option<Value> {
    match (original, written) {
        (Value::Object(original), Value::Object(written)) => {
            let mut rest = Map::new();
            for (key, value) in original {
                let field = descriptor.and_then(|descriptor| descriptor.get_field_by_name(key));
                let kept = match written.get(key) {
                    Some(written) => {
                        let kind = field.map(|field| field.kind());
                        missing(value, written, kind.as_ref().and_then(|kind| kind.as_message()))
                    }
                    // The same field under its other name was read, and is written under its first one.
                    None if field.is_none()
                        && descriptor.is_some_and(|of| of.get_field_by_json_name(key).is_some()) =>
                    {
                        None
                    }
                    None => Some(value.clone()),
                };
                rest.extend(kept.map(|kept| (key.clone(), kept)));
            }
            (!rest.is_empty()).then_some(Value::Object(rest))
        }
        (Value::Array(original), Value::Array(written)) if original.len() == written.len() => {
            let pairs = original.iter().zip(written);
            let rest: Vec<_> = pairs.map(|(a, b)| missing(a, b, descriptor).unwrap_or(Value::Null)).collect();
            rest.iter().any(|rest| !rest.is_null()).then_some(Value::Array(rest))
        }
        (Value::Array(original), Value::Array(_)) => Some(Value::Array(original.clone())),
        _ => None,
    }
}

fn put_back(value: &mut Value, rest: &Value) {
    match (value, rest) {
        (Value::Object(value), Value::Object(rest)) => {
            for (key, rest) in rest {
                match value.get_mut(key) {
                    Some(known) => put_back(known, rest),
                    None => drop(value.insert(key.clone(), rest.clone())),
                }
            }
        }
        (Value::Array(value), Value::Array(rest)) if value.len() == rest.len() => {
            value.iter_mut().zip(rest).for_each(|(value, rest)| put_back(value, rest));
        }
        (value @ Value::Array(_), Value::Array(rest)) => *value = Value::Array(rest.clone()),
        _ => {}
    }
}
