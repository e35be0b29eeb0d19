-- The jobs that /metrics tells apart: the twenty newest, and the thirty oldest of those that have not ended, which are the
-- ones that run. Their number is bounded, because each of them is a label of many series.

create view watched_job as
    (select id, name, spec from job order by id desc limit 20)
    union
    (select id, name, spec from job where ended_at is null order by id limit 30);
