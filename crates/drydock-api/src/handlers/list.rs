//! GET of a collection: selectors, pages, versions.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use drydock_store::{Listing, Stored};
use serde_json::{Value, json};

use super::{
    Call, Response,
    create::store_error,
    options,
    read::parse_version,
    respond::{encoded, partial},
};
use crate::{
    codec::View,
    error::ApiError,
    resource::ResourceInfo,
    select::{FieldSelector, LabelSelector},
    table,
};

/// Which objects a request selects.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// By label.
    pub labels: LabelSelector,
    /// By field.
    pub fields: FieldSelector,
    /// By name, for requests to a single object.
    pub name: String,
}

impl Selection {
    /// Whether an object (in the request's version) is selected.
    pub fn matches(&self, resource: &ResourceInfo, object: &Value) -> bool {
        (self.name.is_empty() || crate::meta::name(object) == self.name)
            && self.labels.matches(object)
            && self.fields.matches(resource, object)
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.name.is_empty() && self.labels.is_empty() && self.fields.is_empty()
    }
}

/// Selected objects at a revision.
#[derive(Debug)]
pub struct Matching {
    /// Objects in the request's version.
    pub items: Vec<Value>,
    /// Revision of the list.
    pub revision: u64,
}

impl Call {
    /// The selection of the request.
    ///
    /// # Errors
    /// 400 with the parser's message.
    pub fn selection(&self) -> Result<Selection, ApiError> {
        Ok(Selection {
            labels: LabelSelector::parse(&self.options.label_selector).map_err(ApiError::bad_request)?,
            fields: FieldSelector::parse(&self.options.field_selector, &self.resource)
                .map_err(ApiError::bad_request)?,
            name: self.name().to_owned(),
        })
    }

    /// All selected objects now.
    ///
    /// # Errors
    /// 400 for bad selectors.
    pub fn matching(&self) -> Result<Matching, ApiError> {
        let selection = self.selection()?;
        let listing = self.api.core.store.list(&self.resource.prefix(self.namespace()));
        let items = listing.items.iter().map(|stored| self.present(stored));
        let items = items
            .filter(|object| selection.matches(&self.resource, object))
            .collect();
        Ok(Matching {
            items,
            revision: listing.revision,
        })
    }

    /// Answers the collection of the path.
    ///
    /// # Errors
    /// As the real server.
    pub async fn list(&mut self) -> Result<Response, ApiError> {
        options::check_list(&self.options, false)?;
        self.check_include()?;
        let selection = self.selection()?;
        let prefix = self.resource.prefix(self.namespace());
        let resume = match self.options.continue_token.as_str() {
            "" => None,
            token => Some(Token::parse(token)?),
        };
        let listing = self.listing(&prefix, resume.as_ref()).await?;
        let limit = usize::try_from(self.options.limit).unwrap_or(0);
        let mut items = Vec::new();
        let mut rest = listing.items.iter().filter(|stored| {
            resume
                .as_ref()
                .is_none_or(|token| stored.key.strip_prefix(&prefix).unwrap_or(&stored.key) > token.start.as_str())
        });
        let mut next = None;
        let mut last: Option<&Stored> = None;
        for stored in rest.by_ref() {
            let object = self.present(stored);
            if !selection.matches(&self.resource, &object) {
                continue;
            }
            if limit > 0 && items.len() == limit {
                next = last.map(|last| last.key.strip_prefix(&prefix).unwrap_or(&last.key).to_owned());
                break;
            }
            items.push(object);
            last = Some(stored);
        }
        let mut list_meta = json!({ "resourceVersion": listing.revision.to_string() });
        if let Some(start) = next {
            list_meta["continue"] = Token {
                revision: listing.revision,
                start,
            }
            .text()
            .into();
            if selection.labels.is_empty() && selection.fields.is_empty() {
                list_meta["remainingItemCount"] = json!(rest.count() + 1);
            }
        }
        if self.resource.custom && self.accept.view == View::Full && list_meta.get("continue").is_none() {
            // Lists of custom resources are encoded with the field even when it is empty.
            list_meta["continue"] = "".into();
        }
        self.list_of(items, list_meta)
    }

    async fn listing(&self, prefix: &str, resume: Option<&Token>) -> Result<Listing, ApiError> {
        let store = &self.api.core.store;
        if let Some(token) = resume {
            return store.list_at(prefix, token.revision).map_err(|_| {
                ApiError::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
                )
            });
        }
        if self.options.resource_version.is_empty() {
            return Ok(store.list(prefix));
        }
        let wanted = parse_version(&self.options.resource_version)?;
        self.wait_for(wanted).await?;
        if self.options.resource_version_match == "Exact" {
            return store.list_at(prefix, wanted).map_err(|error| store_error(&error));
        }
        Ok(store.list(prefix))
    }

    /// Answers a list in the view of the request.
    ///
    /// # Errors
    /// 406.
    pub fn list_of(&self, mut items: Vec<Value>, list_meta: Value) -> Result<Response, ApiError> {
        let resource = &self.resource;
        let value = match &self.accept.view {
            View::Table(version) => table::render(resource, &items, list_meta, version, self.include()),
            View::PartialList(version) => {
                let items: Vec<Value> = items.iter().map(|object| partial(object, version)).collect();
                json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": list_meta,
                    "items": items,
                })
            }
            View::Partial(_) => {
                return Err(ApiError::new(
                    406,
                    "NotAcceptable",
                    format!(
                        "you requested PartialObjectMetadata, but the requested object is a list ({})",
                        table::go_name(resource, &resource.list_kind)
                    ),
                ));
            }
            View::Full | View::Discovery(_) => {
                let mut list_meta = list_meta;
                if resource.custom {
                    // Lists of custom resources carry the field even on the last page.
                    crate::kinds::default(&mut list_meta, "continue", "");
                } else {
                    for item in items.iter_mut().filter_map(Value::as_object_mut) {
                        item.shift_remove("kind");
                        item.shift_remove("apiVersion");
                    }
                }
                json!({
                    "kind": resource.list_kind,
                    "apiVersion": resource.api_version(),
                    "metadata": list_meta,
                    "items": items,
                })
            }
        };
        Ok(encoded(200, self.accept.format, &value))
    }
}

/// Base64 of tokens; like the real server's it does not mind stray bits at the end.
const TOKENS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    revision: u64,
    /// Key (after the prefix) of the last object already listed.
    start: String,
}

impl Token {
    fn text(&self) -> String {
        let value = json!({ "v": "meta.k8s.io/v1", "rv": self.revision, "start": self.start });
        TOKENS.encode(value.to_string())
    }

    fn parse(text: &str) -> Result<Self, ApiError> {
        let invalid =
            |why: String| ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = TOKENS
            .decode(text.trim_end_matches('='))
            .map_err(|error| invalid(format!("illegal base64 data: {error}")))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| {
            let first = bytes.first().copied().unwrap_or(0);
            invalid(format!(
                "invalid character {} looking for beginning of value",
                go_quoted(first)
            ))
        })?;
        match (value["rv"].as_u64(), value["start"].as_str()) {
            (Some(revision), Some(start)) => Ok(Self {
                revision,
                start: start.to_owned(),
            }),
            _ => Err(invalid("revision or start key is missing".into())),
        }
    }
}

/// A byte as Go's JSON parser quotes it.
fn go_quoted(byte: u8) -> String {
    if byte.is_ascii_graphic() || byte == b' ' {
        format!("'{}'", char::from(byte))
    } else {
        format!("'\\u{:04x}'", byte)
    }
}
