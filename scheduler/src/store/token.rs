//! Tokens.

use std::time::Duration;

use super::{Store, StoreError};
use crate::token::{KnownToken, Scope, Secret, TokenView};
use protocol::id::TokenId;

impl Store {
    /// Stores a new token's hash. The token is refused once `lifetime` has passed; without one, it lasts until it is revoked.
    pub async fn create_token(
        &self,
        name: &str,
        scope: Scope,
        secret: &Secret,
        lifetime: Option<Duration>,
    ) -> Result<TokenView, StoreError> {
        let row = sqlx::query_as!(
            TokenView,
            r#"insert into token (id, name, scope, prefix, sha256, expires_at)
               values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
               returning id as "id: TokenId", name, scope as "scope: Scope", prefix, created_at, expires_at, revoked_at"#,
            TokenId::new().0,
            name,
            scope as Scope,
            secret.prefix(),
            &secret.sha256()[..],
            lifetime.map(|lifetime| lifetime.as_secs_f64())
        );
        Ok(row.fetch_one(&self.pool).await?)
    }

    /// Stores the token that a file on this machine holds, unless it is stored already.
    ///
    /// # Errors
    /// `Conflict` if it was revoked or has expired.
    pub async fn ensure_token(&self, name: &str, scope: Scope, secret: &Secret) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into token (id, name, scope, prefix, sha256) values ($1, $2, $3, $4, $5) on conflict do nothing",
            TokenId::new().0,
            name,
            scope as Scope,
            secret.prefix(),
            &secret.sha256()[..]
        )
        .execute(&self.pool)
        .await?;
        let known = self.token_by_prefix(secret.prefix()).await?;
        if known.is_none_or(|known| known.sha256 != secret.sha256()) {
            let message = "it was revoked or has expired: remove the file, and the next start makes a new token";
            return Err(StoreError::Conflict(message.into()));
        }
        Ok(())
    }

    /// The token with this prefix, if it may be used now.
    pub async fn token_by_prefix(&self, prefix: &str) -> Result<Option<KnownToken>, StoreError> {
        let row = sqlx::query!(
            r#"select id as "id: TokenId", scope as "scope: Scope", sha256 from token
               where prefix = $1 and revoked_at is null and coalesce(expires_at > now(), true)"#,
            prefix
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let sha256 = row.sha256.try_into().map_err(|_| StoreError::Row {
                table: "token",
                column: "sha256",
                id: row.id.to_string(),
                why: "not 32 bytes".into(),
            })?;
            Ok(KnownToken { id: row.id, scope: row.scope, sha256 })
        })
        .transpose()
    }

    /// All tokens, the newest first.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, StoreError> {
        let rows = sqlx::query_as!(
            TokenView,
            r#"select id as "id: TokenId", name, scope as "scope: Scope", prefix, created_at, expires_at, revoked_at
               from token order by created_at desc, id desc"#
        );
        Ok(rows.fetch_all(&self.pool).await?)
    }

    /// Revokes the token. Revoking it again changes nothing.
    ///
    /// # Errors
    /// `LastAdmin` if no other admin token could be used afterwards.
    pub async fn revoke_token(&self, id: TokenId) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Two administrators who revoke each other's token at the same time are one after the other here.
        let admins = sqlx::query_scalar!(
            r#"select id as "id: TokenId" from token
               where scope = 'admin' and revoked_at is null and coalesce(expires_at > now(), true)
               order by id for update"#
        )
        .fetch_all(&mut *transaction)
        .await?;
        if admins == [id] {
            return Err(StoreError::LastAdmin);
        }
        let found = sqlx::query!("update token set revoked_at = coalesce(revoked_at, now()) where id = $1", id.0)
            .execute(&mut *transaction)
            .await?;
        if found.rows_affected() == 0 {
            return Err(StoreError::NotFound { what: "token", id: id.to_string() });
        }
        transaction.commit().await?;
        Ok(())
    }
}
