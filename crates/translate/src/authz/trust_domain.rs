//! Trust domains that mean the same: a principal of one is a principal of all.

/// The principals of all domains that the given ones stand for, in order.
pub(super) fn principals(values: &[String], domains: &[String]) -> Vec<String> {
    let mut expanded = Vec::new();
    for principal in values {
        let parts: Vec<&str> = principal.split('/').collect();
        let known = parts.len() == 5 && parts[0] != "*" && (parts[0] == "cluster.local" || covers(parts[0], domains));
        if !known || domains.is_empty() {
            expanded.push(principal.clone());
            continue;
        }
        let mut own: Vec<String> = Vec::new();
        for domain in domains {
            let replaced = if ends_like(domain, parts[0]) {
                principal.clone()
            } else {
                format!("{domain}/{}", parts[1..].join("/"))
            };
            if !own.contains(&replaced) {
                own.push(replaced);
            }
        }
        expanded.extend(own);
    }
    expanded
}

/// All domains, if the value is one of them.
pub(super) fn names(values: &[String], domains: &[String]) -> Vec<String> {
    let mut expanded: Vec<String> = Vec::new();
    for value in values {
        let all: &[String] = if domains.contains(value) {
            domains
        } else {
            std::slice::from_ref(value)
        };
        for name in all {
            if !expanded.contains(name) {
                expanded.push(name.clone());
            }
        }
    }
    expanded
}

/// Whether a pattern fits one of the domains.
fn covers(pattern: &str, domains: &[String]) -> bool {
    domains.iter().any(|domain| {
        pattern == "*"
            || pattern == domain
            || pattern.strip_prefix('*').is_some_and(|end| domain.ends_with(end))
            || pattern.strip_suffix('*').is_some_and(|start| domain.starts_with(start))
    })
}

/// Whether a domain ends as a pattern with `*` in front says.
fn ends_like(domain: &str, pattern: &str) -> bool {
    pattern.strip_prefix('*').is_some_and(|end| domain.ends_with(end))
}
