//! Kubernetes quantities (`100m`, `1.5Gi`) as exact numbers.

use k8s_openapi::api::core::v1::{Container, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths; `None` if the text is none.
pub(crate) fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || ".+-".contains(c)))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (factor, divisor): (i128, i128) = match suffix {
        "" => (1000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        e if e.starts_with(['e', 'E']) => (
            1000i128.checked_mul(10i128.checked_pow(e[1..].parse::<u32>().ok()?)?)?,
            1,
        ),
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || number.len() > 25 {
        return None;
    }
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    digits.checked_mul(factor).map(|v| v / divisor / scale)
}

/// The value of a `resourceFieldRef`, rounded up in units of its divisor. A limit that is not set is what the node has.
pub(crate) fn resource(container: &Container, selector: &ResourceFieldSelector, node: (i128, i128)) -> Option<String> {
    let resources = container.resources.as_ref();
    let (kind, name) = selector.resource.split_once('.')?;
    let list = match kind {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return None,
    };
    let set = list.and_then(|l| l.get(name)).and_then(milli);
    let (cpu, memory) = node;
    let value = match (set, kind, name) {
        (Some(v), _, _) => v,
        (None, "limits", "cpu") => cpu * 1000,
        (None, "limits", "memory") => memory * 1000,
        _ => 0,
    };
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(milli)
        .filter(|d| *d > 0)
        .unwrap_or(1000);
    Some(((value + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quantities() {
        for (text, want) in [
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("1.5", Some(1500)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2e3", Some(2_000_000)),
            ("x", None),
            ("", None),
            ("1.0000000000", None),
        ] {
            assert_eq!(milli(&Quantity(text.into())), want, "{text}");
        }
    }

    #[test]
    fn resources_round_up_and_fall_back_to_the_node() {
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "c", "resources": {"limits": {"cpu": "1500m"}}}))
                .unwrap();
        let check = |resource_name: &str, divisor: Option<&str>, want: &str| {
            let selector = ResourceFieldSelector {
                resource: resource_name.into(),
                divisor: divisor.map(|d| Quantity(d.into())),
                ..Default::default()
            };
            assert_eq!(
                resource(&container, &selector, (4, 8 << 30)).as_deref(),
                Some(want),
                "{resource_name}"
            );
        };
        check("limits.cpu", None, "2");
        check("limits.cpu", Some("1m"), "1500");
        check("limits.memory", Some("1Mi"), "8192");
        check("requests.memory", None, "0");
    }
}
