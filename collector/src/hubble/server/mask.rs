//! Field masks: only the named fields of a flow travel. Pure.

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};

use crate::hubble::proto::{DESCRIPTORS, flow::Flow};

/// Paths of one mask at the most.
pub const MAX_PATHS: usize = 128;

/// The fields that are wanted.
#[derive(Debug, Clone)]
pub struct Mask {
    flow: MessageDescriptor,
    paths: Vec<Vec<String>>,
}

impl Mask {
    /// Reads paths such as `source.pod_name`; none for no mask.
    ///
    /// # Errors
    /// When a flow has no such field.
    pub fn new(paths: &[String]) -> Result<Option<Self>, String> {
        if paths.is_empty() {
            return Ok(None);
        }
        if paths.len() > MAX_PATHS {
            return Err(format!("field_mask has more than {MAX_PATHS} paths"));
        }
        let pool = DescriptorPool::decode(DESCRIPTORS).map_err(|error| error.to_string())?;
        let flow = pool.get_message_by_name("flow.Flow").ok_or("no descriptor of flow.Flow")?;
        let mut read = Vec::new();
        for path in paths {
            let names: Vec<String> = path.split('.').map(str::to_owned).collect();
            let mut message = Some(flow.clone());
            for name in &names {
                let field = message.as_ref().and_then(|message| message.get_field_by_name(name));
                let field = field.ok_or_else(|| format!("field_mask: a flow has no {path}"))?;
                message = if field.is_list() { None } else { field.kind().as_message().cloned() };
            }
            read.push(names);
        }
        Ok(Some(Self { flow, paths: read }))
    }

    /// The flow with the wanted fields alone.
    #[must_use]
    pub fn apply(&self, flow: &Flow) -> Flow {
        let Ok(whole) = DynamicMessage::decode(self.flow.clone(), flow.encode_to_vec().as_slice()) else {
            return flow.clone();
        };
        let mut part = DynamicMessage::new(self.flow.clone());
        for path in &self.paths {
            copy(&whole, &mut part, path);
        }
        Flow::decode(part.encode_to_vec().as_slice()).unwrap_or_default()
    }
}

fn copy(whole: &DynamicMessage, part: &mut DynamicMessage, path: &[String]) {
    let Some((name, rest)) = path.split_first() else { return };
    if !whole.has_field_by_name(name) {
        return;
    }
    match (whole.get_field_by_name(name).as_deref(), rest.is_empty()) {
        (Some(Value::Message(inner)), false) => {
            if !part.has_field_by_name(name) {
                part.set_field_by_name(name, Value::Message(DynamicMessage::new(inner.descriptor())));
            }
            if let Some(Value::Message(target)) = part.get_field_by_name_mut(name) {
                copy(inner, target, rest);
            }
        }
        (Some(value), true) => part.set_field_by_name(name, value.clone()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Flow, Mask};
    use crate::hubble::proto::flow::{Endpoint, Layer4, Tcp, layer4::Protocol};

    #[test]
    fn only_what_is_named_travels() {
        let end = Endpoint { namespace: "shop".into(), pod_name: "cart".into(), ..Endpoint::default() };
        let tcp = Tcp { source_port: 1, destination_port: 2, flags: None };
        let l4 = Some(Layer4 { protocol: Some(Protocol::Tcp(tcp)) });
        let flow = Flow {
            source: Some(end.clone()),
            destination: Some(end),
            verdict: 1,
            node_name: "n".into(),
            is_reply: Some(false),
            l4,
            ..Flow::default()
        };
        let paths = ["source.pod_name", "source.namespace", "verdict", "l4.TCP.source_port", "l7", "is_reply"];
        let mask = Mask::new(&paths.map(str::to_owned)).expect("valid").expect("a mask");
        let masked = mask.apply(&flow);
        assert_eq!((masked.source, masked.verdict), (flow.source, 1));
        assert_eq!(masked.is_reply, Some(false), "present, though it is the default");
        assert!(masked.destination.is_none() && masked.node_name.is_empty());
        let tcp = Tcp { source_port: 1, ..Tcp::default() };
        assert_eq!(masked.l4, Some(Layer4 { protocol: Some(Protocol::Tcp(tcp)) }));
        for wrong in ["nothing", "source.nothing", "verdict.deeper", ""] {
            assert!(Mask::new(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        assert!(Mask::new(&[]).expect("valid").is_none());
    }
}
