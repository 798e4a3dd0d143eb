use tests::Lab;
#[test]
fn smoke() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("report.pdf", 3_000_000);
    bob.share([&file]);
    let node = bob.serve();
    let got = lab.empty_folder("got");
    alice.fetch("bob", ["report.pdf"], &got).run().exits(0);
    tests::files::assert_same(got.join("report.pdf"), &file);
    node.wait_for("alice fetched report.pdf");
    node.interrupt();
    node.finish().exits(130);
}
