//! Pure path on a realistic pod of 6 kB: two containers and an init container, three secrets.

mod pod;

use divan::{Bencher, black_box};
use injection::PodView;

fn main() {
    divan::main();
}

/// Cost of an admission in the core: decode, parse, plan, render, write the patch.
#[divan::bench]
fn decode_parse_plan_render(bencher: Bencher<'_, '_>) {
    let (pod, world) = (pod::asking(), pod::World::default());
    bencher.bench(|| pod::admit(black_box(&pod), &world));
}

/// Cost for a pod that is decoded already.
#[divan::bench]
fn parse_plan_render(bencher: Bencher<'_, '_>) {
    let (pod, world) = (pod::asking(), pod::World::default());
    let view: PodView<'_> = serde_json::from_slice(&pod).expect("a pod");
    bencher.bench(|| pod::patch(black_box(&view), &world));
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let pod = pod::asking();
    bencher.bench(|| {
        serde_json::from_slice::<PodView<'_>>(black_box(&pod))
            .expect("a pod")
            .service_account()
            .len()
    });
}

/// Pod without annotations of the webhook.
#[divan::bench]
fn nothing_to_do(bencher: Bencher<'_, '_>) {
    let pod = pod::indifferent();
    bencher.bench(|| pod::skips(black_box(&pod)));
}
