//! The disk side: current objects and the revision, in one `redb` file.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::Error;

const OBJECTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";

/// One object as loaded: key, revision, JSON.
pub(crate) type Loaded = (String, u64, Vec<u8>);

#[derive(Debug)]
pub(crate) struct Log {
    database: Database,
}

/// One change to write.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub key: &'a str,
    pub revision: u64,
    /// JSON of the object, `None` removes it.
    pub json: Option<Vec<u8>>,
}

/// The file, for its owner's eyes only: Secrets are in it.
fn private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // One of an earlier version was not.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

impl Log {
    /// Opens or creates the file and reads everything.
    pub fn open(path: &Path) -> Result<(Self, u64, Vec<Loaded>), Error> {
        let file = private(path).map_err(Error::disk)?;
        let backend = FileBackend::new(file).map_err(Error::disk)?;
        let database = Database::builder().create_with_backend(backend).map_err(Error::disk)?;
        let setup = database.begin_write().map_err(Error::disk)?;
        setup.open_table(OBJECTS).map_err(Error::disk)?;
        setup.open_table(META).map_err(Error::disk)?;
        setup.commit().map_err(Error::disk)?;
        let read = database.begin_read().map_err(Error::disk)?;
        let revision = {
            let meta = read.open_table(META).map_err(Error::disk)?;
            meta.get(REVISION)
                .map_err(Error::disk)?
                .map_or(0, |value| value.value())
        };
        let mut loaded = Vec::new();
        let objects = read.open_table(OBJECTS).map_err(Error::disk)?;
        for entry in objects.iter().map_err(Error::disk)? {
            let (key, value) = entry.map_err(Error::disk)?;
            let (revision, json) = value.value();
            loaded.push((key.value().to_owned(), revision, json.to_vec()));
        }
        drop(objects);
        drop(read);
        Ok((Self { database }, revision, loaded))
    }

    /// Writes all records in one durable transaction.
    pub fn commit(&self, records: &[Record<'_>], revision: u64) -> Result<(), Error> {
        let write = self.database.begin_write().map_err(Error::disk)?;
        {
            let mut objects = write.open_table(OBJECTS).map_err(Error::disk)?;
            for record in records {
                match &record.json {
                    Some(json) => {
                        objects
                            .insert(record.key, (record.revision, json.as_slice()))
                            .map_err(Error::disk)?;
                    }
                    None => {
                        objects.remove(record.key).map_err(Error::disk)?;
                    }
                }
            }
            let mut meta = write.open_table(META).map_err(Error::disk)?;
            meta.insert(REVISION, revision).map_err(Error::disk)?;
        }
        write.commit().map_err(Error::disk)
    }
}
