//! Registered datasets.

use std::path::PathBuf;

use sqlx::types::Json;

use super::{Store, StoreError, read, signed, unsigned};
use crate::dataset::{DatasetKind, DatasetView, Identity, Scan, ScannedFile};
use protocol::DatasetFile;

impl Store {
    /// Registers a dataset; from now on its name stands for this content. Registering the same content again only updates its
    /// folder.
    pub async fn register_dataset(&self, scan: &Scan) -> Result<DatasetView, StoreError> {
        let folder = scan.folder.to_string_lossy();
        let mut transaction = self.pool.begin().await?;
        let row = sqlx::query!(
            r#"insert into dataset (name, kind, folder, digest, bytes, facts) values ($1, $2, $3, $4, $5, $6)
               on conflict on constraint dataset_content_unique
               do update set folder = excluded.folder, kind = excluded.kind, facts = excluded.facts, registered_at = now()
               returning id, registered_at"#,
            scan.name,
            scan.kind() as DatasetKind,
            folder.as_ref(),
            scan.digest,
            signed(scan.bytes()),
            Json(&scan.facts) as _
        )
        .fetch_one(&mut *transaction)
        .await?;
        let files = || scan.files.iter();
        sqlx::query!(
            "insert into dataset_file (dataset_id, path, sha256, bytes, device, inode, modified_ns, changed_ns)
             select $1, * from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                                      $8::bigint[])
             on conflict (dataset_id, path) do update set device = excluded.device, inode = excluded.inode,
                 modified_ns = excluded.modified_ns, changed_ns = excluded.changed_ns",
            row.id,
            &files().map(|scanned| scanned.file.path.clone()).collect::<Vec<_>>(),
            &files().map(|scanned| scanned.file.sha256.clone()).collect::<Vec<_>>(),
            &files().map(|scanned| signed(scanned.file.bytes)).collect::<Vec<_>>(),
            &files().map(|scanned| scanned.identity.device).collect::<Vec<_>>(),
            &files().map(|scanned| scanned.identity.inode).collect::<Vec<_>>(),
            &files().map(|scanned| scanned.identity.modified_ns).collect::<Vec<_>>(),
            &files().map(|scanned| scanned.identity.changed_ns).collect::<Vec<_>>()
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(DatasetView {
            name: scan.name.clone(),
            kind: scan.kind(),
            path: folder.into_owned(),
            digest: scan.digest.clone(),
            files: scan.files.len() as u64,
            bytes: scan.bytes(),
            facts: scan.facts.clone(),
            registered_at: row.registered_at,
        })
    }

    /// The dataset that each name stands for now, in the order of the names.
    pub async fn datasets(&self) -> Result<Vec<DatasetView>, StoreError> {
        let rows = sqlx::query!(
            r#"select distinct on (name) name, kind as "kind: DatasetKind", folder, digest, bytes, facts, registered_at,
                      (select count(*) from dataset_file f where f.dataset_id = d.id) as "files!"
               from dataset d order by name, registered_at desc, id desc"#
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(DatasetView {
                    facts: read("dataset", "facts", &row.name, row.facts)?,
                    name: row.name,
                    kind: row.kind,
                    path: row.folder,
                    digest: row.digest,
                    files: unsigned(row.files),
                    bytes: unsigned(row.bytes),
                    registered_at: row.registered_at,
                })
            })
            .collect()
    }

    /// Up to a thousand names in their order, each with the kind of the dataset that it stands for now.
    pub async fn dataset_names(&self) -> Result<Vec<(String, DatasetKind)>, StoreError> {
        let rows = sqlx::query!(
            r#"select distinct on (name) name, kind as "kind: DatasetKind"
               from dataset order by name, registered_at desc, id desc limit 1000"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.name, row.kind)).collect())
    }

    /// The dataset that the name stands for now.
    pub async fn dataset_by_name(&self, name: &str) -> Result<Option<Scan>, StoreError> {
        let id = sqlx::query_scalar!(
            "select id from dataset where name = $1 order by registered_at desc, id desc limit 1",
            name
        );
        match id.fetch_optional(&self.pool).await? {
            Some(id) => self.dataset(id).await.map(Some),
            None => Ok(None),
        }
    }

    /// A dataset with this content, whatever its name.
    pub async fn dataset_by_digest(&self, digest: &str) -> Result<Option<Scan>, StoreError> {
        let id = sqlx::query_scalar!(
            "select id from dataset where digest = $1 order by registered_at desc, id desc limit 1",
            digest
        );
        match id.fetch_optional(&self.pool).await? {
            Some(id) => self.dataset(id).await.map(Some),
            None => Ok(None),
        }
    }

    async fn dataset(&self, id: i64) -> Result<Scan, StoreError> {
        let row = sqlx::query!("select name, folder, digest, facts from dataset where id = $1", id)
            .fetch_one(&self.pool)
            .await?;
        let files = sqlx::query!(
            r#"select path, sha256, bytes, device, inode, modified_ns, changed_ns
               from dataset_file where dataset_id = $1 order by path collate "C""#,
            id
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Scan {
            name: row.name,
            folder: PathBuf::from(row.folder),
            digest: row.digest,
            facts: read("dataset", "facts", id, row.facts)?,
            files: files
                .into_iter()
                .map(|file| {
                    let bytes = unsigned(file.bytes);
                    let (device, inode, modified_ns, changed_ns) =
                        (file.device, file.inode, file.modified_ns, file.changed_ns);
                    ScannedFile {
                        file: DatasetFile { path: file.path, sha256: file.sha256, bytes },
                        identity: Identity { device, inode, bytes, modified_ns, changed_ns },
                    }
                })
                .collect(),
        })
    }

    /// Files of registered datasets with this content, the newest first, each with the folder from which its path starts.
    pub async fn dataset_files_by_sha256(&self, sha256: &str) -> Result<Vec<(PathBuf, ScannedFile)>, StoreError> {
        let rows = sqlx::query!(
            "select d.folder, f.path, f.sha256, f.bytes, f.device, f.inode, f.modified_ns, f.changed_ns
             from dataset_file f join dataset d on d.id = f.dataset_id
             where f.sha256 = $1 order by d.registered_at desc limit 10",
            sha256
        );
        let rows = rows.fetch_all(&self.pool).await?.into_iter().map(|row| {
            let bytes = unsigned(row.bytes);
            let (device, inode, modified_ns, changed_ns) = (row.device, row.inode, row.modified_ns, row.changed_ns);
            let scanned = ScannedFile {
                file: DatasetFile { path: row.path, sha256: row.sha256, bytes },
                identity: Identity { device, inode, bytes, modified_ns, changed_ns },
            };
            (PathBuf::from(row.folder), scanned)
        });
        Ok(rows.collect())
    }
}
