//! The conclusion as `PUT /hosts/{name}/report` takes it.

use serde_json::{Map, Value, json};

use crate::decide::{Conclusion, Verdict};
use crate::facts::Device;

/// The body of a report.
pub(crate) fn body(conclusion: &Conclusion) -> Value {
    let facts = &conclusion.facts;
    let devices: Vec<Value> = facts
        .devices
        .iter()
        .zip(&conclusion.devices)
        .map(|(facts, verdict)| device(facts, verdict))
        .collect();
    let transports: Vec<&str> = conclusion.pi_transports.iter().map(|transport| transport.as_str()).collect();
    json!({
        "kernel": facts.release,
        "policy": conclusion.policy,
        "pi_transports": transports,
        "devices": devices,
        "evidence": {
            "agent": env!("CARGO_PKG_VERSION"),
            "reason": conclusion.reason,
            "modules": facts.modules,
        },
    })
}

fn device(facts: &Device, verdict: &Verdict) -> Value {
    let mut object = match serde_json::to_value(facts) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    };
    object.insert("policy".to_owned(), json!(verdict.policy));
    object.insert("reason".to_owned(), json!(verdict.reason));
    object.insert("holes".to_owned(), json!(verdict.holes));
    Value::Object(object)
}
