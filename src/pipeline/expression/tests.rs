use super::*;

fn context() -> Context {
    let map =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let stage = |status: &str, outputs: &[(&str, &str)]| StageContext {
        status: status.to_owned(),
        outputs: map(outputs),
    };
    Context {
        run: map(&[("number", "10"), ("version", "10-9f3c2a1b"), ("trigger", "manual")]),
        commit: map(&[
            ("sha", "9f3c"),
            ("branch", "Main"),
            ("author", "A <a@b>"),
            ("message", "it's ${{ x }}"),
        ]),
        params: map(&[
            ("flavour", "plain"),
            ("off", "false"),
            ("empty", ""),
            ("size", "1.10"),
            ("a-b", "dash"),
        ]),
        environment: map(&[("name", "staging"), ("group", "qa")]),
        stages: BTreeMap::from([
            ("build".parse().unwrap(), stage("succeeded", &[("url", "http://x"), ("a.b", "dotted")])),
            ("test".parse().unwrap(), stage("failed", &[])),
        ]),
        success: true,
        failure: false,
    }
}

fn value(text: &str) -> String {
    let template = Template::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    template.evaluate(&context()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn holds(text: &str) -> bool {
    let condition = Expression::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    condition.holds(&context()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn templates_put_values_in_place() {
    for (text, expected) in [
        ("", ""),
        ("plain $text }} {{", "plain $text }} {{"),
        ("${{ commit.branch }}", "Main"),
        ("a ${{commit.sha}}${{ run.number }} b", "a 9f3c10 b"),
        ("${{ params.size }}", "1.10"),
        ("${{ params['a-b'] }} ${{ params.a-b }}", "dash dash"),
        ("${{ stages.build.outputs.url }}", "http://x"),
        ("${{ stages.build.outputs['a.b'] }}", "dotted"),
        ("${{ stages['test'].status }}", "failed"),
        ("${{ stages.test.outputs.anything }}", ""),
        ("${{ environment.name }}/${{ environment.group }}", "staging/qa"),
        ("${{ '}}' }} ${{ 'it''s' }}", "}} it's"),
        ("${{ 1.5 }} ${{ 2 }} ${{ true }} ${{ null }}", "1.5 2 true "),
        ("${{ format('{1}-{0} {{}}', 'a', 2) }}", "2-a {}"),
        ("${{ params.off && 'yes' || 'no' }}", "no"),
        ("${{ case(run.number > 99, 'many', run.number > 9, 'some', 'few') }}", "some"),
        // What a value says is never read again.
        ("${{ commit.message }}", "it's ${{ x }}"),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn conditions_hold_or_do_not() {
    for (text, expected) in [
        ("true", true),
        ("${{ true }}", true),
        ("!true", false),
        ("commit.branch == 'Main'", true),
        ("commit.branch == 'main'", false),
        ("commit.branch != 'main' && true", true),
        ("run.number > 9", true),
        ("run.number == '10'", true),
        ("params.size == 1.1", true),
        ("params.size == '1.1'", false),
        ("params.off", false),
        ("params.off == false", true),
        ("params.empty", false),
        ("params.empty == null", true),
        ("params.flavour", true),
        ("params.flavour < 5", false),
        ("params.flavour >= 5", false),
        ("contains(commit.author, '@b')", true),
        ("startsWith(run.version, '10-') && endsWith(run.version, 'b')", true),
        ("STARTSWITH('abc', 'B')", false),
        ("(1 < 2) == true", true),
        ("0 || null || ''", false),
        ("always() && stages.test.status == 'failed'", true),
        ("failure() || !success()", false),
        ("success()", true),
    ] {
        assert_eq!(holds(text), expected, "{text}");
    }
}

#[test]
fn a_condition_means_success_unless_it_asks_for_a_status() {
    let failed = Context { success: false, failure: true, ..context() };
    for (text, expected) in [
        ("true", false),
        ("commit.branch == 'Main'", false),
        ("always()", true),
        ("failure()", true),
        ("!success() && true", true),
        ("success() || params.flavour == 'plain'", true),
    ] {
        assert_eq!(Expression::parse(text).unwrap().holds(&failed), Ok(expected), "{text}");
    }
    // Where nothing may run, nothing is looked up either.
    assert_eq!(Expression::parse("stages.build.outputs.none == 'x'").unwrap().holds(&failed), Ok(false));
}

#[test]
fn what_is_not_there_is_an_error_value() {
    let missing =
        |text: &str, context: &Context| Template::parse(text).unwrap().evaluate(context).unwrap_err();
    assert_eq!(
        missing("${{ stages.build.outputs.port }}", &context()),
        EvalError::MissingOutput { stage: "build".into(), output: "port".into() }
    );
    let bare = Context { commit: BTreeMap::new(), ..context() };
    assert_eq!(missing("x ${{ commit.sha }}", &bare).to_string(), "this run has no commit.sha");
    assert!(matches!(missing("${{ format('{1}', 'a') }}", &context()), EvalError::Format(..)));
    assert!(matches!(missing("${{ format('{') }}", &context()), EvalError::Format(..)));
}

#[test]
fn a_value_cannot_grow_without_bound() {
    let mut text = "'xxxxxxxxxx'".to_owned();
    for _ in 0..25 {
        text = format!("format('{{0}}{{0}}', {text})");
    }
    let bomb = Template::parse(&format!("${{{{ {text} }}}}")).unwrap();
    assert_eq!(bomb.evaluate(&context()), Err(EvalError::TooLong));
}

#[test]
fn references_are_named_with_their_place() {
    let text = "a ${{ params.x || stages.build.outputs.y }}";
    let template = Template::parse(text).unwrap();
    let found: Vec<_> = template.references().into_iter().map(|(r, at)| (r.to_string(), &text[at])).collect();
    assert_eq!(
        found,
        [
            ("params.x".to_owned(), "params.x"),
            ("stages.build.outputs.y".to_owned(), "stages.build.outputs.y"),
        ]
    );
}

#[test]
fn long_chains_cost_no_stack() {
    let chain = vec!["1"; LENGTH_LIMIT / 3].join("||");
    assert!(holds(&chain));
    let nots = format!("{}true", "!".repeat(48));
    assert!(holds(&nots));
}
