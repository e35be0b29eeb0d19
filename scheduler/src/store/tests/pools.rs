//! The connections of the store and their limits.

use futures::FutureExt;
use futures::future::join_all;

use super::*;
use crate::store::pool::Pool;

async fn text(pool: &Pool, query: &'static str) -> String {
    sqlx::query_scalar(query).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn agents_and_the_control_loop_do_not_wait_for_what_people_ask_for() {
    let world = World::new().await;
    let taken = join_all((0..20).map(|_| world.store.pool.begin())).await;
    assert!(taken.iter().all(Result::is_ok));
    let agent = Agent::new(&world, "a", 1, "cpu");
    agent.sync(&world.store.reserved(), vec![]).await;
    Control::new(world.store.reserved(), world.artifacts.clone(), world.policy.clone()).round().await.unwrap();
    assert!(matches!(world.store.jobs(1, None).await, Err(StoreError::Busy(_))), "no connection is left for people");
    drop(taken);
    world.store.jobs(1, None).await.unwrap();
}

#[tokio::test]
async fn every_connection_has_limits_of_time() {
    let world = World::new().await;
    for pool in [&world.store.pool, &world.store.reserved().pool] {
        assert_eq!(text(pool, "select current_setting('statement_timeout')").await, "1min");
        assert_eq!(text(pool, "select current_setting('lock_timeout')").await, "15s");
        assert_eq!(text(pool, "select current_setting('idle_in_transaction_session_timeout')").await, "1min");
    }
    let late = sqlx::query("select pg_sleep(60) from (select set_config('statement_timeout', '1', false)) s");
    let short = sqlx::query("set statement_timeout = 1");
    let mut transaction = world.store.pool.begin().await.unwrap();
    short.execute(&mut *transaction).await.unwrap();
    let error = late.execute(&mut *transaction).await.unwrap_err();
    assert!(matches!(StoreError::from(error), StoreError::Busy(_)));
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_no_transaction_open() {
    let world = World::new().await;
    for _ in 0..200 {
        // The first look starts the work; the caller leaves before it is done.
        let _ = world.store.pool.begin().now_or_never();
        let _ = world.store.jobs(10, None).now_or_never();
    }
    let open = "select count(*)::text from pg_stat_activity
                where datname = current_database() and state like 'idle in transaction%'";
    let none = async {
        while text(&world.store.reserved().pool, open).await != "0" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), none).await.expect("a transaction stays open");
    // Every connection begins a transaction of its own.
    let begun = join_all((0..20).map(|_| world.store.pool.begin())).await;
    for transaction in begun {
        let mut transaction = transaction.unwrap();
        sqlx::query("set transaction isolation level serializable").execute(&mut *transaction).await.unwrap();
    }
}

#[tokio::test]
async fn a_text_with_nul_is_told_apart_from_a_fault() {
    let world = World::new().await;
    assert!(matches!(world.store.dataset_by_name("a\0").await, Err(StoreError::Nul)));
}
