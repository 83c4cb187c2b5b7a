//! The grammar: from the text to conditions with their places in it.

use std::ops::Range;

use winnow::{
    ascii::{Caseless, multispace0, multispace1},
    combinator::{alt, cut_err, delimited, eof, fail, not, opt, peek, preceded, repeat, separated, terminated},
    error::{ContextError, ErrMode, StrContext, StrContextValue},
    prelude::*,
    stream::{LocatingSlice, Stateful},
    token::{any, none_of, one_of, take_while},
};

use crate::{MAX_DEPTH, MAX_TEXT, error::QueryError};

/// Conditions as they are written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Condition(Written),
}

/// One condition as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) field: Spanned<String>,
    /// The steps behind the name of the field.
    pub(crate) path: Vec<Step>,
    pub(crate) operator: Spanned<Operator>,
    pub(crate) values: Vec<Spanned<Value>>,
}

/// A thing and the bytes of the query where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spanned<T> {
    pub(crate) it: T,
    pub(crate) at: Range<usize>,
}

/// A step into a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    Unequal,
    Begins,
    Ends,
    Contains,
    Lacks,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// A value as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Word(String),
    Quoted(String),
    Regex { pattern: String, any_case: bool },
}

impl Value {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Quoted(text) | Self::Regex { pattern: text, .. } => text,
        }
    }
}

type Input<'t> = Stateful<LocatingSlice<&'t str>, usize>;
type Parsed<T> = ModalResult<T>;

/// Reads a query.
pub(crate) fn parse(text: &str) -> Result<Node, QueryError> {
    if text.len() > MAX_TEXT {
        return Err(QueryError::at(
            text,
            MAX_TEXT,
            text.len(),
            format!("at most {MAX_TEXT} bytes"),
        ));
    }
    let input = Input {
        input: LocatingSlice::new(text),
        state: 0,
    };
    let mut query = delimited(
        multispace0,
        any_of,
        (multispace0, expect(eof, "`and`, `or` or a condition")),
    );
    query.parse(input).map_err(|error| {
        let at = error.offset();
        let word = text.get(at..).unwrap_or_default();
        let end = at + word.find(char::is_whitespace).unwrap_or(word.len());
        QueryError::at(text, at, end, expected(error.inner()))
    })
}

fn expected(error: &ContextError) -> String {
    let last = error.context().find_map(|context| match context {
        StrContext::Expected(StrContextValue::Description(text)) => Some((*text).to_owned()),
        _ => None,
    });
    last.unwrap_or_else(|| "a condition such as state=retry".to_owned())
}

fn expect<'t, T>(
    parser: impl Parser<Input<'t>, T, ErrMode<ContextError>>,
    what: &'static str,
) -> impl Parser<Input<'t>, T, ErrMode<ContextError>> {
    cut_err(parser).context(StrContext::Expected(StrContextValue::Description(what)))
}

fn spanned<'t, T>(
    parser: impl Parser<Input<'t>, T, ErrMode<ContextError>>,
) -> impl Parser<Input<'t>, Spanned<T>, ErrMode<ContextError>> {
    parser.with_span().map(|(it, at)| Spanned { it, at })
}

/// `and`, `or` or `not`, where it is a word of its own.
fn keyword<'t>(word: &'static str) -> impl Parser<Input<'t>, (), ErrMode<ContextError>> {
    let ends = peek(alt((multispace1.void(), '('.void(), eof.void())));
    terminated(winnow::token::literal(Caseless(word)).void(), ends)
}

fn any_of(input: &mut Input<'_>) -> Parsed<Node> {
    let or = delimited(multispace0, keyword("or"), multispace0);
    let first = all_of.parse_next(input)?;
    let mut others: Vec<Node> =
        repeat(0.., preceded(or, expect(all_of, "a condition behind `or`"))).parse_next(input)?;
    if others.is_empty() {
        return Ok(first);
    }
    others.insert(0, first);
    Ok(Node::Any(others))
}

fn all_of(input: &mut Input<'_>) -> Parsed<Node> {
    let first = one.parse_next(input)?;
    let and = delimited(multispace0, keyword("and"), multispace0);
    let with_word = preceded(and, expect(one, "a condition behind `and`"));
    let beside = preceded((multispace0, not(keyword("or")), peek(none_of([')']))), one);
    let mut others: Vec<Node> = repeat(0.., alt((with_word, beside))).parse_next(input)?;
    if others.is_empty() {
        return Ok(first);
    }
    others.insert(0, first);
    Ok(Node::All(others))
}

/// A condition, a group in parentheses, or the opposite of one.
fn one(input: &mut Input<'_>) -> Parsed<Node> {
    if input.state >= MAX_DEPTH {
        return expect(fail, "at most 32 levels of parentheses and `not`").parse_next(input);
    }
    input.state += 1;
    let group = delimited(
        ('(', multispace0),
        expect(any_of, "a condition behind `(`"),
        (multispace0, expect(')', "`)`")),
    );
    let opposite = alt((keyword("not"), '!'.void()));
    let negated = preceded((opposite, multispace0), expect(one, "a condition behind `not`"));
    let node = alt((
        group,
        negated.map(|node| Node::Not(Box::new(node))),
        condition.map(Node::Condition),
    ))
    .parse_next(input)?;
    input.state -= 1;
    Ok(node)
}

fn condition(input: &mut Input<'_>) -> Parsed<Written> {
    not(alt((keyword("and"), keyword("or")))).parse_next(input)?;
    let field = spanned(take_while(1.., is_of_name).map(str::to_owned)).parse_next(input)?;
    let path = repeat(0.., step).parse_next(input)?;
    multispace0.parse_next(input)?;
    let operator = expect(spanned(operator), "an operator: = != ^= $= ~ !~ < <= > >=").parse_next(input)?;
    multispace0.parse_next(input)?;
    let searches = matches!(operator.it, Operator::Contains | Operator::Lacks);
    let value = move |input: &mut Input<'_>| match searches {
        true => alt((regex, quoted, word)).parse_next(input),
        false => alt((quoted, word)).parse_next(input),
    };
    let comma = (multispace0, ',', multispace0);
    let values = separated(1.., expect(spanned(value), "a value"), comma).parse_next(input)?;
    Ok(Written {
        field,
        path,
        operator,
        values,
    })
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn step(input: &mut Input<'_>) -> Parsed<Step> {
    let key = take_while(1.., |c| is_of_name(c) || c == '-').map(str::to_owned);
    let key = preceded('.', expect(alt((quoted_text, key)), "a name behind `.`")).map(Step::Key);
    let digits = take_while(1..=9, |c: char| c.is_ascii_digit()).try_map(str::parse::<usize>);
    let index = delimited('[', expect(digits, "the number of an element"), expect(']', "`]`")).map(Step::Index);
    alt((key, index)).parse_next(input)
}

fn operator(input: &mut Input<'_>) -> Parsed<Operator> {
    let long = alt((
        "!=".value(Operator::Unequal),
        "!~".value(Operator::Lacks),
        "^=".value(Operator::Begins),
        "$=".value(Operator::Ends),
        ">=".value(Operator::AtLeast),
        "<=".value(Operator::AtMost),
    ));
    let short = alt((
        '='.value(Operator::Equal),
        '~'.value(Operator::Contains),
        '>'.value(Operator::More),
        '<'.value(Operator::Less),
    ));
    alt((long, short)).parse_next(input)
}

fn word(input: &mut Input<'_>) -> Parsed<Value> {
    let is_of_word = |c: char| !c.is_whitespace() && !matches!(c, '(' | ')' | ',' | '"' | '\'');
    let ends = peek(not(one_of(['"', '\''])));
    terminated(
        take_while(1.., is_of_word),
        expect(ends, "a value that is in quotes as a whole"),
    )
    .map(|text: &str| Value::Word(text.to_owned()))
    .parse_next(input)
}

fn quoted(input: &mut Input<'_>) -> Parsed<Value> {
    quoted_text.map(Value::Quoted).parse_next(input)
}

fn quoted_text(input: &mut Input<'_>) -> Parsed<String> {
    let quote = one_of(['"', '\'']).parse_next(input)?;
    let character = alt((preceded('\\', any), none_of([quote, '\\'])));
    terminated(repeat(0.., character), expect(quote, "the closing quote")).parse_next(input)
}

fn regex(input: &mut Input<'_>) -> Parsed<Value> {
    '/'.parse_next(input)?;
    // Only an escaped slash loses its escape.
    let character = alt((
        "\\/".value("/".to_owned()),
        ('\\', any).map(|(_, c)| format!("\\{c}")),
        none_of(['/', '\\']).map(String::from),
    ));
    let parts: Vec<String> = terminated(repeat(0.., character), expect('/', "the closing `/`")).parse_next(input)?;
    let any_case = opt('i').parse_next(input)?.is_some();
    let ends = alt((multispace1.void(), one_of([')', ',']).void(), eof.void()));
    expect(peek(ends), "a space behind the regular expression").parse_next(input)?;
    let pattern = parts.concat();
    Ok(Value::Regex { pattern, any_case })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    fn shape(node: &Node) -> String {
        let list = |nodes: &[Node]| nodes.iter().map(shape).collect::<Vec<_>>().join(" ");
        match node {
            Node::All(nodes) => format!("(all {})", list(nodes)),
            Node::Any(nodes) => format!("(any {})", list(nodes)),
            Node::Not(node) => format!("(not {})", shape(node)),
            Node::Condition(written) => written
                .values
                .iter()
                .map(|value| value.it.text())
                .collect::<Vec<_>>()
                .join("|"),
        }
    }

    #[test]
    fn and_binds_closer_than_or_and_parentheses_closer_still() {
        let shapes = [
            ("id=1", "1"),
            ("id=1 id=2", "(all 1 2)"),
            ("id=1 and id=2 AND id=3", "(all 1 2 3)"),
            ("id=1 id=2 or id=3", "(any (all 1 2) 3)"),
            ("id=1 ( id=2 or id=3 )id=4", "(all 1 (any 2 3) 4)"),
            ("not id=1 id=2", "(all (not 1) 2)"),
            ("not (id=1 or !id=2)", "(not (any 1 (not 2)))"),
            ("id = a , b,'c d'", "a|b|c d"),
            (r#"id="a \"b\" \\c" id='or'"#, r#"(all a "b" \c or)"#),
            ("order=1 or android=2 or not_x=3", "(any 1 2 3)"),
            (r"error~/a\/b\d \)/i or error~x/y/", r"(any a/b\d \) x/y/)"),
            (" id=1\n\tid=2 ", "(all 1 2)"),
        ];
        for (text, expected) in shapes {
            assert_eq!(
                shape(&parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_path_has_names_quoted_names_and_numbers() {
        let Node::Condition(written) = parse(r#"payload.items[12]."a b".x-y=1"#).unwrap() else {
            panic!("one condition");
        };
        let key = |text: &str| Step::Key(text.to_owned());
        assert_eq!(written.path, [key("items"), Step::Index(12), key("a b"), key("x-y")]);
    }

    #[test]
    fn a_wrong_query_is_refused_with_the_place_and_what_was_expected() {
        let refusals = [
            (
                "",
                "query, character 1: expected a condition such as state=retry, found its end",
            ),
            (
                "id",
                "query, character 3: expected an operator: = != ^= $= ~ !~ < <= > >=, found its end",
            ),
            (
                "id=1 foo",
                "query, character 9: expected an operator: = != ^= $= ~ !~ < <= > >=, found its end",
            ),
            (
                "id=1 foo bar=2",
                "query, character 10: expected an operator: = != ^= $= ~ !~ < <= > >=, found \"bar=2\"",
            ),
            ("id=", "query, character 4: expected a value, found its end"),
            ("id=1,", "query, character 6: expected a value, found its end"),
            (
                "id='abc",
                "query, character 8: expected the closing quote, found its end",
            ),
            (
                "error~/abc",
                "query, character 11: expected the closing `/`, found its end",
            ),
            (
                "id=1 or",
                "query, character 8: expected a condition behind `or`, found its end",
            ),
            (
                "id=1 and",
                "query, character 9: expected a condition behind `and`, found its end",
            ),
            ("(id=1", "query, character 6: expected `)`, found its end"),
            (
                "id=1)",
                "query, character 5: expected `and`, `or` or a condition, found \")\"",
            ),
            ("()", "query, character 2: expected a condition behind `(`, found \")\""),
            (
                "not",
                "query, character 4: expected a condition behind `not`, found its end",
            ),
            (
                "payload.=1",
                "query, character 9: expected a name behind `.`, found \"=1\"",
            ),
            (
                "payload[x]=1",
                "query, character 9: expected the number of an element, found \"x]=1\"",
            ),
            (
                "é=1 ?",
                "query, character 5: expected `and`, `or` or a condition, found \"?\"",
            ),
            (
                "id=a\"b\"",
                "query, character 5: expected a value that is in quotes as a whole, found \"\\\"b\\\"\"",
            ),
        ];
        for (text, expected) in refusals {
            assert_eq!(refused(text), expected, "{text:?}");
        }
    }

    #[test]
    fn length_and_depth_have_limits() {
        let deep = |levels: usize| format!("{}id=1{}", "(".repeat(levels), ")".repeat(levels));
        parse(&deep(MAX_DEPTH - 1)).unwrap();
        assert!(refused(&deep(MAX_DEPTH)).contains("at most 32 levels"));
        assert!(refused(&"not ".repeat(1000)).contains("at most 32 levels"));
        let long = format!("id={}", "x".repeat(MAX_TEXT));
        assert!(refused(&long).contains("at most 4096 bytes"));
    }
}
