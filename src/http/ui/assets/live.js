// Makes a page live: whenever the server says that something changed, the page is fetched again and its
// main part is brought up to date, piece by piece, so that focus, what is typed and what is open stay.

const PAUSE = 300 // milliseconds between two looks

const main = document.querySelector('main[data-live]')
if (main) follow(main)
setInterval(tellTime, 10_000)

function follow(main) {
  const page = main.dataset.page ?? location.pathname + location.search
  let busy = false
  let again = false

  async function look() {
    if (busy) {
      again = true
      return
    }
    busy = true
    try {
      const response = await fetch(page, { credentials: 'same-origin' })
      if (response.ok) {
        const text = await response.text()
        const fresh = new DOMParser().parseFromString(text, 'text/html').querySelector('main')
        if (fresh) morph(main, fresh)
      }
    } catch {
      // The server is away; the stream connects again, and that is a reason to look.
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE))
    busy = false
    if (again) {
      again = false
      look()
    }
  }

  const source = new EventSource(main.dataset.live)
  source.addEventListener('change', look)
  source.addEventListener('run', (event) => {
    // The stream of a run ends with it.
    if (JSON.parse(event.data).finished_at) source.close()
    look()
  })
  // A page that is put aside and brought back looks at what it missed.
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) look()
  })
}

// What the person at the page decides is theirs: it is not taken from what the server sends.
function isKept(element, name) {
  return name === 'open' && element.localName === 'details'
}

function morph(old, fresh) {
  for (const name of old.getAttributeNames()) {
    if (!fresh.hasAttribute(name) && !isKept(old, name)) old.removeAttribute(name)
  }
  for (const name of fresh.getAttributeNames()) {
    const value = fresh.getAttribute(name)
    if (old.getAttribute(name) !== value && !isKept(old, name)) old.setAttribute(name, value)
  }
  if (old.localName === 'textarea') return
  if (old.localName === 'select') {
    if (old.innerHTML === fresh.innerHTML) return
    // What was chosen stays, with whatever else there is to choose now. Copies, as an option that is taken
    // out of one list makes the next one there the chosen one, which it stays where it goes.
    const chosen = touched.has(old) ? old.value : null
    old.replaceChildren(...[...fresh.childNodes].map((child) => child.cloneNode(true)))
    if (chosen !== null && [...old.options].some((option) => option.value === chosen)) old.value = chosen
    return
  }
  let at = old.firstChild
  for (const child of [...fresh.childNodes]) {
    const match = find(at, child)
    if (!match) {
      old.insertBefore(child, at)
      continue
    }
    // What stands between and has no counterpart here goes, unless it comes later.
    while (at !== match) {
      const gone = at
      at = at.nextSibling
      gone.remove()
    }
    if (match.nodeType === Node.ELEMENT_NODE) morph(match, child)
    else if (match.data !== child.data) match.data = child.data
    at = match.nextSibling
  }
  while (at) {
    const gone = at
    at = at.nextSibling
    gone.remove()
  }
}

const touched = new WeakSet()
document.addEventListener('change', (event) => touched.add(event.target))

// The first of the nodes from `at` on that is the same thing as `child`; without an id, only the next one.
function find(at, child) {
  if (!child.id) {
    const same = at && at.nodeType === child.nodeType && at.nodeName === child.nodeName && !at.id
    return same ? at : null
  }
  for (let node = at; node; node = node.nextSibling) {
    if (node.id === child.id) return node
  }
  return null
}

// The same words as the server says.
function tellTime() {
  for (const time of document.querySelectorAll('time[data-ago]')) {
    const words = ago((Date.now() - Date.parse(time.dateTime)) / 1000)
    if (time.textContent !== words) time.textContent = words
  }
}

function ago(seconds) {
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit))
  if (seconds < 0) return 'soon'
  if (seconds < 10) return 'just now'
  if (minutes < 1) return `${Math.floor(seconds / 10) * 10} s ago`
  if (hours < 1) return `${minutes} min ago`
  if (days < 1) return `${hours} h ago`
  return days === 1 ? '1 day ago' : `${days} days ago`
}
