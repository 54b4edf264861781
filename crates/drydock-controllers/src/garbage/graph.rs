//! The graph of owners and dependants, and what it asks for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Most owners remembered as absent; beyond it they are looked up again.
const REMEMBERED: usize = 10_000;

/// Where an object is found on the server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `apiVersion` of the resource.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What the graph knows of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Where it is.
    pub place: Place,
    /// Its uid.
    pub uid: String,
    owners: Vec<OwnerReference>,
    deleting: bool,
    finalizers: Vec<String>,
}

impl Object {
    /// Takes what matters out of an object's metadata.
    #[must_use]
    pub fn new(api_version: &str, kind: &str, meta: &ObjectMeta) -> Self {
        Object {
            place: Place {
                api_version: api_version.into(),
                kind: kind.into(),
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
            },
            uid: meta.uid.clone().unwrap_or_default(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
        }
    }

    fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == name)
    }

    /// Deleted in the foreground: it stays until its dependants are gone.
    fn waits_for_dependants(&self) -> bool {
        self.deleting && self.has_finalizer(FOREGROUND)
    }
}

/// What is to be done about one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask the server whether this owner of the object exists, and tell the graph ([`Graph::absent`]).
    LookUp(OwnerReference),
    /// Delete the object; `foreground`: its own dependants first.
    Delete {
        /// Whether to wait for dependants.
        foreground: bool,
    },
    /// Take the references to these uids out of the object's owner references.
    RemoveOwners(BTreeSet<String>),
    /// Take this finalizer out of the object.
    RemoveFinalizer(&'static str),
    /// Take the reference to the object out of each of these dependants (uids).
    Orphan(Vec<String>),
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Graph {
    objects: BTreeMap<String, Object>,
    dependants: BTreeMap<String, BTreeSet<String>>,
    absent: BTreeSet<String>,
}

impl Graph {
    /// Takes in an object as it is now. Answers with the uids that are to be decided on.
    pub fn apply(&mut self, object: Object) -> Vec<String> {
        let uid = object.uid.clone();
        self.unlink(&uid);
        self.absent.remove(&uid);
        for owner in &object.owners {
            self.dependants
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        let mut affected = vec![uid.clone()];
        if object.waits_for_dependants() {
            affected.extend(self.dependants_of(&uid));
        }
        // An owner that waits for this object may wait no longer.
        affected.extend(
            object
                .owners
                .iter()
                .map(|owner| owner.uid.clone())
                .filter(|owner| self.objects.get(owner).is_some_and(Object::waits_for_dependants)),
        );
        self.objects.insert(uid, object);
        affected
    }

    /// Takes in that an object is gone.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut affected = self.dependants_of(uid);
        if let Some(object) = self.objects.get(uid) {
            affected.extend(object.owners.iter().map(|owner| owner.uid.clone()));
        }
        self.unlink(uid);
        self.objects.remove(uid);
        self.absent(uid);
        affected
    }

    /// Takes in that the server has no object of this uid.
    pub fn absent(&mut self, uid: &str) {
        if self.absent.len() >= REMEMBERED {
            self.absent.clear();
        }
        self.absent.insert(uid.to_owned());
    }

    /// The object of a uid.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    /// The uids of the known objects of one kind (to find those that a new listing no longer has).
    #[must_use]
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Vec<String> {
        let same = |object: &&Object| object.place.api_version == api_version && object.place.kind == kind;
        self.objects
            .values()
            .filter(same)
            .map(|object| object.uid.clone())
            .collect()
    }

    fn unlink(&mut self, uid: &str) {
        let Some(old) = self.objects.get(uid) else { return };
        for owner in &old.owners {
            if let Some(dependants) = self.dependants.get_mut(&owner.uid) {
                dependants.remove(uid);
                if dependants.is_empty() {
                    self.dependants.remove(&owner.uid);
                }
            }
        }
    }

    fn dependants_of(&self, uid: &str) -> Vec<String> {
        self.dependants.get(uid).into_iter().flatten().cloned().collect()
    }

    fn blocking(&self, uid: &str) -> bool {
        self.dependants_of(uid)
            .iter()
            .filter_map(|dependant| self.objects.get(dependant))
            .any(|dependant| {
                dependant
                    .owners
                    .iter()
                    .any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
            })
    }

    /// What is to be done about the object of `uid`, if anything.
    #[must_use]
    pub fn decide(&self, uid: &str) -> Vec<Action> {
        let Some(object) = self.objects.get(uid) else {
            return Vec::new();
        };
        if object.deleting {
            return self.decide_deleting(object);
        }
        let (mut solid, mut waiting, mut dangling) = (false, BTreeSet::new(), BTreeSet::new());
        for owner in &object.owners {
            match self.objects.get(&owner.uid) {
                // A namespaced object of another namespace cannot be an owner.
                Some(known) if !reachable(object, known) => drop(dangling.insert(owner.uid.clone())),
                Some(known) if known.waits_for_dependants() => drop(waiting.insert(owner.uid.clone())),
                Some(_) => solid = true,
                None if self.absent.contains(&owner.uid) => drop(dangling.insert(owner.uid.clone())),
                None => return vec![Action::LookUp(owner.clone())],
            }
        }
        if solid {
            let gone: BTreeSet<_> = dangling.into_iter().chain(waiting).collect();
            return if gone.is_empty() {
                Vec::new()
            } else {
                vec![Action::RemoveOwners(gone)]
            };
        }
        if waiting.is_empty() && dangling.is_empty() {
            return Vec::new(); // nobody owns it
        }
        let has_dependants = !self.dependants_of(uid).is_empty();
        vec![Action::Delete {
            foreground: !waiting.is_empty() && has_dependants,
        }]
    }

    fn decide_deleting(&self, object: &Object) -> Vec<Action> {
        if object.has_finalizer(ORPHAN) {
            let dependants = self.dependants_of(&object.uid);
            let mut actions = Vec::new();
            if !dependants.is_empty() {
                actions.push(Action::Orphan(dependants));
            }
            actions.push(Action::RemoveFinalizer(ORPHAN));
            return actions;
        }
        if object.has_finalizer(FOREGROUND) && !self.blocking(&object.uid) {
            return vec![Action::RemoveFinalizer(FOREGROUND)];
        }
        Vec::new()
    }
}

fn reachable(dependant: &Object, owner: &Object) -> bool {
    owner.place.namespace.is_empty() || owner.place.namespace == dependant.place.namespace
}
