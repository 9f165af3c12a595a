//! What a run draws of itself.

use comm::Layout;
use launch::{Launch, launch};
use report::Track;

#[test]
fn a_run_that_records_its_last_step_alone_can_draw_it() {
    let settings = Launch { layout: Layout { pp: 2, ..Layout::default() }, ..Launch::default() };
    let charts = launch(&settings, |mesh| {
        let steps = 3;
        for step in 1..=steps {
            mesh.world.barrier()?; // no rank is a step ahead
            if step == steps {
                mesh.trace.start();
            }
            for micro_batch in 0..step {
                drop(mesh.trace.span(Track::Compute, format!("forward {micro_batch}")));
                drop(mesh.trace.span(Track::Compute, format!("backward {micro_batch}")));
            }
            drop(mesh.trace.span(Track::Compute, "optimizer"));
        }
        mesh.chart()
    });
    let charts = charts.unwrap();
    let bubble = charts[0].as_ref().and_then(|chart| chart.bubble()).unwrap();
    assert_eq!(bubble.ideal, 1.0 / 4.0); // pp 2, and 3 micro-batches in the last step
    assert!(charts[1].is_none(), "only rank 0 draws");
}

#[test]
fn a_run_that_recorded_nothing_has_no_chart() {
    let settings = Launch { layout: Layout { pp: 2, ..Layout::default() }, ..Launch::default() };
    let charts = launch(&settings, |mesh| {
        drop(mesh.trace.span(Track::Compute, "forward 0"));
        drop(mesh.trace.span(Track::Compute, "optimizer"));
        mesh.chart()
    });
    assert!(charts.unwrap().iter().all(Option::is_none));
}
