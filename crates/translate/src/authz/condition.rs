//! One attribute of a request with the values it may and may not have.

use ipnet::IpNet;
use xds::envoy::config::core::v3::{CidrRange, TypedExtensionConfig};
use xds::envoy::config::rbac::v3::{Permission, Principal, permission, principal};
use xds::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use xds::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};

use super::matcher;
use crate::proto;

/// Attributes that conditions are about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attribute<'a> {
    DestinationIp,
    DestinationPort,
    ServerName,
    /// Metadata that a filter left, under a key.
    FilterMetadata(String, String),
    Host,
    Method,
    Path,
    SourceIp,
    RemoteIp,
    Namespace,
    TrustDomain,
    /// Service account; a name without a namespace is of this one.
    ServiceAccount(&'a str),
    Principal,
    RequestPrincipal,
    Audiences,
    Presenter,
    Header(&'a str),
    Claim(Vec<String>),
}

/// A value that cannot be expressed here.
#[derive(Debug)]
pub(super) struct Inexpressible;

type Result<T> = std::result::Result<T, Inexpressible>;

impl<'a> Attribute<'a> {
    /// The attribute that a `when` key names.
    pub(super) fn of_key(key: &'a str, namespace: &'a str) -> Option<Self> {
        Some(match key {
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::ServerName,
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::Namespace,
            "source.trustDomain" => Self::TrustDomain,
            "source.serviceAccount" => Self::ServiceAccount(namespace),
            "source.principal" => Self::Principal,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::Audiences,
            "request.auth.presenter" => Self::Presenter,
            _ => {
                if let Some(rest) = key.strip_prefix("experimental.envoy.filters.") {
                    let (filter, field) = rest.strip_suffix(']').unwrap_or(rest).split_once('[')?;
                    Self::FilterMetadata(format!("envoy.filters.{filter}"), field.to_owned())
                } else if let Some(rest) = key.strip_prefix("request.headers") {
                    Self::Header(rest.strip_prefix('[')?.strip_suffix(']')?)
                } else {
                    let rest = key.strip_prefix("request.auth.claims")?;
                    Self::Claim(nested(rest)?)
                }
            }
        })
    }

    /// Whether it is about the destination (a permission) and not the source (a principal).
    pub(super) fn is_permission(&self) -> bool {
        matches!(
            self,
            Self::DestinationIp
                | Self::DestinationPort
                | Self::ServerName
                | Self::FilterMetadata(..)
                | Self::Host
                | Self::Method
                | Self::Path
        )
    }

    /// Whether several values are one matcher and not alternatives.
    pub(super) fn is_joint(&self) -> bool {
        matches!(
            self,
            Self::FilterMetadata(..) | Self::RequestPrincipal | Self::Audiences | Self::Presenter | Self::Claim(_)
        )
    }

    pub(super) fn permission(&self, value: &str, tcp: bool) -> Result<Permission> {
        let rule = match self {
            Self::DestinationIp => permission::Rule::DestinationIp(range(value)?),
            Self::DestinationPort => {
                permission::Rule::DestinationPort(u32::from(value.parse::<u16>().map_err(|_| Inexpressible)?))
            }
            Self::ServerName => permission::Rule::RequestedServerName(matcher::pattern(value, "")),
            _ if tcp => return Err(Inexpressible),
            Self::Host => permission::Rule::Header(matcher::header(":authority", value, true)),
            Self::Method => permission::Rule::Header(matcher::header(":method", value, false)),
            Self::Path if value.contains("{*}") || value.contains("{**}") => {
                permission::Rule::UriTemplate(TypedExtensionConfig {
                    name: "uri-template".to_owned(),
                    typed_config: Some(proto::any(&UriTemplateMatchConfig {
                        path_template: value.replace("{**}", "**").replace("{*}", "*"),
                    })),
                })
            }
            Self::Path => permission::Rule::UrlPath(PathMatcher {
                rule: Some(path_matcher::Rule::Path(matcher::pattern(value, ""))),
            }),
            _ => return Err(Inexpressible),
        };
        Ok(Permission { rule: Some(rule) })
    }

    pub(super) fn joint_permission(&self, values: &[String]) -> Result<Permission> {
        let Self::FilterMetadata(filter, field) = self else {
            return Err(Inexpressible);
        };
        let matchers = values
            .iter()
            .map(
                |value| match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
                    Some(element) => matcher::one_of(matcher::value(matcher::pattern(element, ""))),
                    None => matcher::value(matcher::pattern(value, "")),
                },
            )
            .collect();
        let metadata = matcher::metadata(filter, [field.as_str()], matcher::either(matchers));
        Ok(Permission {
            rule: Some(permission::Rule::Metadata(metadata)),
        })
    }

    pub(super) fn principal(&self, value: &str, tcp: bool) -> Result<Principal> {
        let identifier = match self {
            Self::SourceIp => principal::Identifier::DirectRemoteIp(range(value)?),
            Self::RemoteIp => principal::Identifier::RemoteIp(range(value)?),
            Self::Namespace => {
                let name = value.split('*').map(matcher::quoted).collect::<Vec<_>>().join(".*");
                authenticated(matcher::regex(format!(".*/ns/{name}/.*")))
            }
            Self::TrustDomain => authenticated(match value.split_once('*') {
                _ if value == "*" => matcher::prefix("spiffe://"),
                None => matcher::prefix(&format!("spiffe://{value}/")),
                Some((start, end)) => matcher::regex(format!(
                    "spiffe://{}[^/]*{}/.*",
                    matcher::quoted(start),
                    matcher::quoted(end)
                )),
            }),
            Self::ServiceAccount(own) => {
                let (namespace, name) = value.split_once('/').unwrap_or((own, value));
                authenticated(matcher::regex(format!(
                    "spiffe://.+/ns/{}/(.+/|)sa/{}(/.+)?",
                    matcher::quoted(namespace),
                    matcher::quoted(name)
                )))
            }
            Self::Principal => authenticated(matcher::pattern(value, "spiffe://")),
            Self::Header(_) if tcp => return Err(Inexpressible),
            Self::Header(name) => principal::Identifier::Header(matcher::header(name, value, false)),
            _ => return Err(Inexpressible),
        };
        Ok(Principal {
            identifier: Some(identifier),
        })
    }

    pub(super) fn joint_principal(&self, values: &[String], tcp: bool) -> Result<Principal> {
        if tcp {
            return Err(Inexpressible);
        }
        let texts = || matcher::either(values.iter().map(|v| matcher::value(matcher::pattern(v, ""))).collect());
        let metadata = match self {
            Self::RequestPrincipal => {
                let mut alternatives: Vec<Principal> = values.iter().map(|v| request_principal(v)).collect();
                return Ok(if alternatives.len() == 1 {
                    alternatives.remove(0)
                } else {
                    Principal {
                        identifier: Some(principal::Identifier::OrIds(principal::Set { ids: alternatives })),
                    }
                });
            }
            Self::Audiences => matcher::list_claim(&["aud".to_owned()], texts()),
            Self::Presenter => matcher::list_claim(&["azp".to_owned()], texts()),
            Self::Claim(path) => matcher::list_claim(path, texts()),
            _ => return Err(Inexpressible),
        };
        Ok(Principal {
            identifier: Some(principal::Identifier::Metadata(metadata)),
        })
    }
}

fn authenticated(name: StringMatcher) -> principal::Identifier {
    principal::Identifier::Authenticated(principal::Authenticated {
        principal_name: Some(name),
    })
}

/// Issuer and subject of a token, `issuer/subject` with `*` at either end.
fn request_principal(value: &str) -> Principal {
    let split = value.rsplit_once('/');
    let (issuer, subject) = split.unwrap_or((value, ""));
    let (issuer, subject) = if value == "*" {
        (matcher::any(), matcher::any())
    } else if let Some(end) = value.strip_prefix('*') {
        match split {
            Some(("*", _)) => (matcher::any(), matcher::exact(subject)),
            Some((issuer, _)) => (
                matcher::suffix(issuer.strip_prefix('*').unwrap_or(issuer)),
                matcher::exact(subject),
            ),
            None => (matcher::any(), matcher::suffix(end)),
        }
    } else if let Some(start) = value.strip_suffix('*') {
        match split {
            Some((_, "*")) => (matcher::exact(issuer), matcher::any()),
            Some((_, subject)) => (
                matcher::exact(issuer),
                matcher::prefix(subject.strip_suffix('*').unwrap_or(subject)),
            ),
            None => (matcher::prefix(start), matcher::any()),
        }
    } else {
        (matcher::exact(issuer), matcher::exact(subject))
    };
    let claim = |name, matcher| Principal {
        identifier: Some(principal::Identifier::Metadata(matcher::plain_claim(name, matcher))),
    };
    Principal {
        identifier: Some(principal::Identifier::AndIds(principal::Set {
            ids: vec![claim("iss", issuer), claim("sub", subject)],
        })),
    }
}

fn range(value: &str) -> Result<CidrRange> {
    let net: IpNet = match value.parse() {
        Ok(net) => net,
        Err(_) => value.parse::<std::net::IpAddr>().map_err(|_| Inexpressible)?.into(),
    };
    Ok(CidrRange {
        address_prefix: net.addr().to_string(),
        prefix_len: Some(proto::u32_value(u32::from(net.prefix_len()))),
    })
}

/// Names in brackets, one after the other: `[a][b]`.
fn nested(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let parts: Vec<&str> = inner.split("][").collect();
    if parts.iter().any(|p| p.contains(['[', ']'])) {
        return Some(vec![inner.to_owned()]);
    }
    Some(parts.into_iter().map(str::to_owned).collect())
}
